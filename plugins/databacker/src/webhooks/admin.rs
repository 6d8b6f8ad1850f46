//! `/admin/webhooks`: making, listing, testing and removing webhooks, and looking at their deliveries.

use keepgate_sdk::records::{Commit, Record};
use keepgate_sdk::upstreams::Request;
use keepgate_sdk::{Call, Failure, Page, Reply, Timestamp, environment};
use serde::Deserialize;
use serde_json::{Value, json};

use super::delivery::{Delivery, Status};
use super::signature::Secret;
use super::{MOST, Webhook, deliver};
use crate::admin::audit;
use crate::admin::instances::{LONGEST_BODY, account, settled};
use crate::caller::{Administrator, Wish, administrator};
use crate::events::{Event, Kind};
use crate::instance::uuid;
use crate::media::{self, Resource};
use crate::problem::{Answer, Problem};
use crate::settings::Settings;
use crate::{layout, listing};

const LONGEST_URL: usize = 2048;
const PAGE: usize = 100;
const MOST_OF_PAGE: usize = 1000;

/// The body that makes a webhook.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    url: String,
    events: Vec<Kind>,
    #[serde(default)]
    secret: Option<String>,
    #[serde(default)]
    account: Option<String>,
}

/// `GET /admin/webhooks`
pub(crate) fn list(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Look)?;
    let media_type = media::accepted(&call.request, Resource::WebhookList)?;
    let page = Page::of(&call.request, PAGE, MOST_OF_PAGE)?;
    let webhooks = listing::behind::<Webhook>(layout::WEBHOOKS, listing::place(&page)?)
        .filter(|one| one.as_ref().map_or(true, |(_, one)| one.may_be_seen_by(&admin)));
    let filled = page.fill(webhooks, |(place, _)| place.clone())?;
    let lines: Vec<Value> = filled.items.iter().map(|(_, one)| shown(one)).collect();
    media::list(&call.request, &media_type, &filled, &lines)
}

/// `POST /admin/webhooks`: the only answer with the secret in it.
pub(crate) fn add(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Change)?;
    let media_type = media::accepted(&call.request, Resource::Webhook)?;
    media::require(&call.request, Resource::Webhook)?;
    let new: New = call.request.json(LONGEST_BODY)?;
    let is_of_account =
        admin.account.is_some() || new.account.is_some() || call.request.query("account").is_some();
    let account = account(&admin, &call.request, new.account)?;
    let account = Some(account).filter(|_| is_of_account);
    let secret = match &new.secret {
        None => Secret::new(),
        Some(given) => {
            Secret::parse(given).map_err(|why| Problem::new(400, format!("secret: {why}")))?
        }
    };
    allowed(&new.url, &call.settings)?;
    within_limit(account.as_deref())?;
    let id = uuid();
    let webhook = Webhook {
        sealed: sealed(&secret, &id)?,
        id,
        account,
        url: new.url,
        events: wanted(new.events)?,
        created: Timestamp::now(),
        disabled: None,
        failed_rounds: 0,
        held_until: None,
    };
    let key = layout::webhook(&webhook.id);
    let commit = Commit::new().absent(&key).put_json(&key, &webhook)?;
    let detail = webhook.events.iter().map(|event| event.name()).collect::<Vec<_>>().join(", ");
    note(commit, &admin, &webhook, "webhook.add", &detail)?.run()?;
    let mut body = shown(&webhook);
    if let Some(members) = body.as_object_mut() {
        members.insert("secret".to_owned(), secret.reveal().into());
    }
    let location = call.request.url(&["admin", "webhooks", &webhook.id]);
    let reply = media::reply(201, &media_type, &body)?;
    Ok(reply.header("location", location).header("cache-control", "no-store"))
}

/// `GET /admin/webhooks/{id}`
pub(crate) fn get(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Look)?;
    let media_type = media::accepted(&call.request, Resource::Webhook)?;
    let (webhook, _) = find(&call, &admin)?;
    media::reply(200, &media_type, &shown(&webhook))
}

/// `DELETE /admin/webhooks/{id}`: what was not delivered yet is not delivered any more.
pub(crate) fn remove(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Change)?;
    let (webhook, record) = find(&call, &admin)?;
    let commit = Commit::new().present(&record.key).delete(&record.key);
    let commit = note(commit, &admin, &webhook, "webhook.remove", "")?;
    settled(commit.run())?;
    if let Err(failure) = deliver::wake() {
        // The daily job does it otherwise.
        let reason = failure.message();
        environment::warn(
            "what a webhook was to get could not be tidied up",
            &[("reason", &reason)],
        );
    }
    Ok(Reply::new(204))
}

/// `POST /admin/webhooks/{id}/test`: sends an event `test` once and says what came of it. That may be that the receiver did
/// not take it; the request has done what it was asked for all the same.
pub(crate) fn test(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Change)?;
    let media_type = media::accepted(&call.request, Resource::Delivery)?;
    let (webhook, _) = find(&call, &admin)?;
    let mut delivery = Delivery::new(Event::new(Kind::Test, None));
    let answer = delivery.send(&webhook, &call.settings);
    delivery.attempts = 1;
    delivery.status = if answer.is_success() { Status::Delivered } else { Status::Failed };
    delivery.answer = Some(answer);
    let commit = Commit::new().put_json(&delivery.key(&webhook), &delivery)?;
    note(commit, &admin, &webhook, "webhook.test", "")?.run()?;
    media::reply(200, &media_type, &delivery.shown())
}

/// `GET /admin/webhooks/{id}/deliveries`: the newest first.
pub(crate) fn deliveries(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Look)?;
    let media_type = media::accepted(&call.request, Resource::DeliveryList)?;
    let (webhook, _) = find(&call, &admin)?;
    let page = Page::of(&call.request, PAGE, MOST_OF_PAGE)?;
    let prefix = layout::deliveries(&webhook.id);
    let deliveries = listing::behind::<Delivery>(&prefix, listing::place(&page)?);
    let filled = page.fill(deliveries, |(place, _)| place.clone())?;
    let lines: Vec<Value> = filled.items.iter().map(|(_, one)| one.shown()).collect();
    media::list(&call.request, &media_type, &filled, &lines)
}

fn note(
    commit: Commit,
    admin: &Administrator,
    webhook: &Webhook,
    action: &str,
    detail: &str,
) -> Result<Commit, Failure> {
    audit::note_in(commit, admin, webhook.account.as_deref(), action, &webhook.id, detail)
}

/// The webhook of a path; 404 also for another account's.
fn find(call: &Call<Settings>, admin: &Administrator) -> Result<(Webhook, Record), Problem> {
    let found = Webhook::find(&call.param::<String>("id")?)?;
    let found = found.filter(|(webhook, _)| webhook.may_be_seen_by(admin));
    found.ok_or_else(|| Problem::not_found("there is no such webhook"))
}

/// Refuses a URL that the operator does not allow.
fn allowed(url: &str, settings: &Settings) -> Result<(), Problem> {
    if url.len() > LONGEST_URL {
        return Err(Problem::new(400, format!("url: at most {LONGEST_URL} bytes")));
    }
    let Some(upstream) = &settings.webhooks else {
        return Err(Problem::new(
            422,
            "this mount has no webhooks: the operator must set `webhooks` in its settings to the name of an upstream with the \
             addresses that may be told of events",
        ));
    };
    match Request::new("POST", url).check(upstream) {
        Ok(()) => Ok(()),
        Err(failure @ (Failure::Denied(_) | Failure::Invalid(_))) => {
            Err(Problem::new(422, format!("url: {}", failure.message())))
        }
        Err(failure) => Err(failure.into()),
    }
}

fn wanted(mut events: Vec<Kind>) -> Result<Vec<Kind>, Problem> {
    events.sort_unstable();
    events.dedup();
    if events.is_empty() || events.contains(&Kind::Test) {
        let known: Vec<&str> = Kind::ALL.into_iter().map(Kind::name).collect();
        let message = format!("events: write at least one of {}", known.join(", "));
        return Err(Problem::new(400, message));
    }
    Ok(events)
}

fn within_limit(account: Option<&str>) -> Result<(), Problem> {
    let count = Webhook::all()?.iter().filter(|one| one.account.as_deref() == account).count();
    match count < MOST {
        true => Ok(()),
        false => Err(Problem::new(
            422,
            format!(
                "the account has {count} webhooks, which is as many as it may have; remove one first"
            ),
        )),
    }
}

fn sealed(secret: &Secret, id: &str) -> Result<String, Problem> {
    secret.seal(id).map_err(|failure| match failure {
        Failure::Denied(why) => {
            Problem::new(422, format!("the secret of a webhook cannot be kept: {why}"))
        }
        failure => failure.into(),
    })
}

/// A webhook as administrators see it.
fn shown(webhook: &Webhook) -> Value {
    json!({
        "id": webhook.id,
        "account": webhook.account,
        "url": webhook.url,
        "events": webhook.events,
        "state": if webhook.disabled.is_some() { "disabled" } else { "active" },
        "reason": webhook.disabled,
        "created": webhook.created,
    })
}
