//! The first page: all instances, with their last run.

use keepgate_sdk::{Call, Page};
use maud::html;

use super::instance::state;
use super::{ago, badge, none, page, size};
use crate::admin::instances::{Listed, listed};
use crate::caller::{Wish, administrator};
use crate::instance::Instance;
use crate::problem::Answer;
use crate::settings::{Settings, encoded};

const PAGE: usize = 100;

/// `GET /ui/`
pub(crate) fn overview(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Look)?;
    let asked = Page::of(&call.request, PAGE, PAGE)?;
    let account = call.request.query("account").filter(|account| !account.is_empty());
    let found = listed(&admin, &asked, account)?;
    let accounts =
        account.map(|account| format!("account={}&", encoded(account))).unwrap_or_default();
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
                tbody { @for Listed { instance: one, seen: activity, run } in &found.items { tr {
                    td {
                        a href={ "instances/" (encoded(&one.id)) } { (label(one)) }
                        (state(one.state))
                    }
                    td.wide { @if one.account.is_empty() { (none()) } @else {
                        a href={ "?account=" (encoded(&one.account)) } { (one.account) }
                    } }
                    @match run {
                        Some(run) => {
                            td { a href={ "runs/" (encoded(&run.id)) } { (badge(run.status)) } }
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
            @if let Some(next) = &found.next { a href={ "./?" (accounts) "after=" (encoded(next)) } { "Next page" } }
        }
    };
    Ok(page(&admin, "", "Instances", &content))
}

/// What an instance is called.
pub(super) fn label(instance: &Instance) -> &str {
    if instance.name.is_empty() { &instance.id } else { &instance.name }
}
