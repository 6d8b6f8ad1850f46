//! The first page: all instances, with their last run.

use keepgate_sdk::{Call, Page};
use maud::html;

use super::instance::state;
use super::{ago, badge, none, page, segment, size};
use crate::caller::{Wish, administrator};
use crate::instance::{self, Instance};
use crate::problem::Answer;
use crate::runs;
use crate::settings::Settings;

const PAGE: usize = 100;

/// `GET /ui/`
pub(crate) fn overview(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Look)?;
    let asked = Page::of(&call.request, PAGE, PAGE)?;
    let account = call.request.query("account").filter(|account| !account.is_empty());
    let wanted = instance::all(asked.after()).filter(|found| match found {
        Ok(one) => admin.may_see(one) && account.is_none_or(|account| one.account == account),
        Err(_) => true,
    });
    let found = asked.fill(wanted, |one: &Instance| one.id.clone())?;
    let ids: Vec<&str> = found.items.iter().map(|one| one.id.as_str()).collect();
    let (activities, last) = (instance::activities(&ids)?, runs::keep::last(&ids)?);
    let lines = found.items.iter().zip(activities).zip(last);
    let accounts =
        account.map(|account| format!("account={}&", segment(account))).unwrap_or_default();
    let content = html! {
        h1 { "Instances" }
        p.sub {
            @match account {
                Some(account) => { "Of the account " strong { (account) } ". " a href="./" { "Show all" } }
                None => { "Databases that are backed up, and how their last run went. Times are UTC." }
            }
        }
        @if found.items.is_empty() {
            section.card { p { "There is no instance here yet. Register one with " code { "POST /admin/instances" } "." } }
        } @else {
            div.scroll { table {
                thead { tr {
                    th { "Instance" } th.wide { "Account" } th { "Last run" } th { "When" } th.number { "Size" }
                    th.wide { "Last seen" }
                } }
                tbody { @for ((one, activity), run) in lines { tr {
                    td {
                        a href={ "instances/" (segment(&one.id)) } { (label(one)) }
                        (state(one.state))
                    }
                    td.wide { @if one.account.is_empty() { (none()) } @else {
                        a href={ "?account=" (segment(&one.account)) } { (one.account) }
                    } }
                    @match &run {
                        Some(run) => {
                            td { a href={ "runs/" (segment(&run.id)) } { (badge(run.status)) } }
                            td { (ago(run.start)) }
                            td.number { @match run.bytes { Some(bytes) => (size(bytes)), None => (none()) } }
                        }
                        None => { td { span class="badge never" { "never" } } td { (none()) } td.number { (none()) } }
                    }
                    td.wide { @match activity.seen { Some(seen) => (ago(seen)), None => (none()) } }
                } } }
            } }
        }
        nav.pages {
            @if !asked.after().is_empty() { a href={ "./?" (accounts) } { "First page" } }
            @if let Some(next) = &found.next { a href={ "./?" (accounts) "after=" (segment(next)) } { "Next page" } }
        }
    };
    Ok(page(&admin, "", "Instances", &content))
}

/// What an instance is called.
pub(super) fn label(instance: &Instance) -> &str {
    if instance.name.is_empty() { &instance.id } else { &instance.name }
}
