//! What administrators have done: a record in the same commit as the change itself.

use keepgate_sdk::records::Commit;
use keepgate_sdk::{Call, Failure, Page, Timestamp};
use serde::{Deserialize, Serialize};

use crate::caller::{Administrator, Wish, administrator};
use crate::instance::{Instance, uuid};
use crate::media::{self, Resource};
use crate::problem::Answer;
use crate::settings::Settings;
use crate::{layout, listing};

const PAGE: usize = 100;
const MOST: usize = 1000;

/// What somebody has done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) time: Timestamp,
    pub(crate) by: String,
    /// As in `instance.add`.
    pub(crate) action: String,
    /// The instance or the webhook.
    pub(crate) of: String,
    /// Whose that is: empty if it is an instance of no account, none if it is everybody's.
    #[serde(default)]
    pub(crate) account: Option<String>,
    /// What more there is to say, never a secret.
    pub(crate) detail: String,
}

/// Adds an entry about an instance to a commit.
pub(crate) fn note(
    commit: Commit,
    by: &Administrator,
    action: &str,
    of: &str,
    detail: &str,
) -> Result<Commit, Failure> {
    let account = match Instance::find(of)? {
        Some(found) => Some(found.instance.account),
        None => by.account.clone(),
    };
    note_in(commit, by, account.as_deref(), action, of, detail)
}

/// Adds an entry about something that belongs to this account, or to everybody.
pub(crate) fn note_in(
    commit: Commit,
    by: &Administrator,
    account: Option<&str>,
    action: &str,
    of: &str,
    detail: &str,
) -> Result<Commit, Failure> {
    let time = Timestamp::now();
    let entry = Entry {
        time,
        by: by.name.clone(),
        action: action.to_owned(),
        of: of.to_owned(),
        account: account.map(str::to_owned),
        detail: detail.to_owned(),
    };
    commit.put_json(&layout::audit(time, &uuid()), &entry)
}

/// `GET /admin/audit`: the newest first; those of its account for an administrator who is restricted to one.
pub(crate) fn list(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Look)?;
    let media_type = media::accepted(&call.request, Resource::AuditList)?;
    let page = Page::of(&call.request, PAGE, MOST)?;
    let entries = listing::behind::<Entry>(layout::AUDIT, listing::place(&page)?);
    let entries = entries.filter(|entry| match entry {
        Ok((_, entry)) => admin.account.is_none() || admin.account == entry.account,
        Err(_) => true,
    });
    let filled = page.fill(entries, |(place, _)| place.clone())?;
    let lines: Vec<&Entry> = filled.items.iter().map(|(_, entry)| entry).collect();
    media::list(&call.request, &media_type, &filled, &lines)
}
