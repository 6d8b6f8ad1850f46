//! `/admin/instances`: registering, listing, changing and removing instances.

use keepgate_sdk::records::Commit;
use keepgate_sdk::{Call, Failure, Filled, Page, Reply, Request, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{audit, keys};
use crate::caller::{Administrator, Wish, administrator};
use crate::config::revision;
use crate::instance::{self, Activity, Instance, State, is_uuid, uuid};
use crate::key::Key;
use crate::logs::keep::Usage;
use crate::media::{self, Resource};
use crate::problem::{Answer, Problem};
use crate::retain;
use crate::run::Run;
use crate::runs;
use crate::settings::Settings;
use crate::{layout, listing};

pub(crate) const LONGEST_BODY: u64 = 64 * 1024;
const LONGEST_NAME: usize = 256;
const PAGE: usize = 100;
const MOST: usize = 1000;

/// The body of a registration.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct New {
    public_key: String,
    #[serde(default)]
    encryption_public_key: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    account: Option<String>,
}

/// The body of a change.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Change {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    state: Option<State>,
    #[serde(default)]
    encryption_public_key: Option<String>,
}

/// `GET /admin/instances`
pub(crate) fn list(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Look)?;
    let media_type = media::accepted(&call.request, Resource::InstanceList)?;
    let page = Page::of(&call.request, PAGE, MOST)?;
    let filled = listed(&admin, &page, call.request.query("account"))?;
    let lines = filled.items.iter();
    let lines: Vec<Value> =
        lines.map(|one| line(&one.instance, &one.seen, one.run.as_ref())).collect();
    media::list(&call.request, &media_type, &filled, &lines)
}

/// A line of the list of instances.
pub(crate) struct Listed {
    pub(crate) instance: Instance,
    pub(crate) seen: Activity,
    /// Its newest run.
    pub(crate) run: Option<Run>,
}

/// A page of the instances that an administrator may see, of one account if it is given.
pub(crate) fn listed(
    admin: &Administrator,
    page: &Page,
    account: Option<&str>,
) -> Result<Filled<Listed>, Problem> {
    let wanted = instance::all(listing::place(page)?).filter(|found| match found {
        Ok(one) => admin.may_see(one) && account.is_none_or(|account| one.account == account),
        Err(_) => true,
    });
    let Filled { items, next } = page.fill(wanted, |one: &Instance| one.id.clone())?;
    let ids: Vec<&str> = items.iter().map(|one| one.id.as_str()).collect();
    let (seen, runs) = (instance::activities(&ids)?, runs::keep::last(&ids)?);
    let lines = items.into_iter().zip(seen).zip(runs);
    let items = lines.map(|((instance, seen), run)| Listed { instance, seen, run }).collect();
    Ok(Filled { items, next })
}

/// `POST /admin/instances`
pub(crate) fn add(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Change)?;
    let media_type = media::accepted(&call.request, Resource::Instance)?;
    media::require(&call.request, Resource::Instance)?;
    let new: New = call.request.json(LONGEST_BODY)?;
    let account = account(&admin, &call.request, new.account)?;
    let instance = Instance {
        id: match new.id {
            None => uuid(),
            Some(id) if is_uuid(&id) => id,
            Some(id) => {
                let message =
                    format!("id: {id:?} is no UUID in lower case; leave it out to get one");
                return Err(Problem::new(400, message));
            }
        },
        account,
        name: name(new.name.unwrap_or_default())?,
        state: State::Active,
        created: Timestamp::now(),
        keys: vec![read_key(&new.public_key)?],
        encryption_public_key: new.encryption_public_key.map(encryption_key).transpose()?,
        revision: 0,
    };
    within_quota(&instance.account, &call.settings)?;
    register(&instance, &admin)?;
    retain::begin();
    let reply = media::reply(201, &media_type, &shown(&instance, &call)?)?;
    Ok(reply.header("location", call.request.url(&["admin", "instances", &instance.id])))
}

fn register(instance: &Instance, admin: &Administrator) -> Result<(), Problem> {
    // It would come with the runs and logs of the other one.
    let removed = Instance::find_removed(&instance.id)?;
    if removed.is_some_and(|removed| removed.account != instance.account) {
        let message =
            "id: an instance of another account had this id; leave it out to get a new one";
        return Err(Problem::new(409, message));
    }
    let key = layout::instance(&instance.id);
    let mut commit = Commit::new().absent(&key).put_json(&key, instance)?;
    commit = commit.delete(&layout::removed_instance(&instance.id));
    for one in &instance.keys {
        let index = layout::key(&one.fingerprint);
        commit = commit.absent(&index).put(&index, instance.id.as_bytes());
    }
    let (account, id) = (Some(instance.account.as_str()), &instance.id);
    match audit::note_in(commit, admin, account, "instance.add", id, &instance.name)?.run() {
        Ok(_) => Ok(()),
        Err(Failure::PreconditionFailed) => Err(conflict(instance)?),
        Err(failure) => Err(failure.into()),
    }
}

/// What is taken of an instance that could not be registered.
fn conflict(instance: &Instance) -> Result<Problem, Failure> {
    Ok(match Instance::find(&instance.id)? {
        Some(_) => Problem::new(409, format!("id: there is an instance {}", instance.id)),
        None => Problem::new(409, keys::TAKEN),
    })
}

/// `GET /admin/instances/{id}`
pub(crate) fn get(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Look)?;
    let media_type = media::accepted(&call.request, Resource::Instance)?;
    let found = admin.instance(&call.param::<String>("id")?)?.instance;
    media::reply(200, &media_type, &shown(&found, &call)?)
}

/// `PATCH /admin/instances/{id}`
pub(crate) fn change(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Change)?;
    let media_type = media::accepted(&call.request, Resource::Instance)?;
    media::require(&call.request, Resource::Instance)?;
    let found = admin.instance(&call.param::<String>("id")?)?;
    let change: Change = call.request.json(LONGEST_BODY)?;
    let mut instance = found.instance.clone();
    if let Some(given) = change.name {
        instance.name = name(given)?;
    }
    if let Some(state) = change.state {
        instance.state = state;
    }
    if let Some(key) = change.encryption_public_key {
        instance.encryption_public_key = Some(encryption_key(key)?);
    }
    let detail = format!("name {:?}, {:?}", instance.name, instance.state);
    let commit = found.replace(&instance)?;
    settled(audit::note(commit, &admin, "instance.change", &instance.id, &detail)?.run())?;
    media::reply(200, &media_type, &shown(&instance, &call)?)
}

/// `DELETE /admin/instances/{id}`: its keys are dead at once, and its configurations are gone. Runs and logs stay as long as
/// others.
pub(crate) fn remove(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Change)?;
    let found = admin.instance(&call.param::<String>("id")?)?;
    let id = &found.instance.id;
    let mut commit = Commit::new().unchanged(&found.record).delete(&found.record.key);
    for key in &found.instance.keys {
        commit = commit.delete(&layout::key(&key.fingerprint));
    }
    let commit = commit.delete(&layout::activity(id)).delete(&layout::expected(id));
    let rest = found.instance.clone().without_credentials();
    let commit = commit.put_json(&layout::removed_instance(id), &rest)?;
    let (commit, documents) = revision::removal(id, commit)?;
    settled(audit::note(commit, &admin, "instance.remove", id, &found.instance.name)?.run())?;
    revision::discard(documents);
    Ok(Reply::new(204))
}

/// What became of a commit that replaces what was read before.
pub(crate) fn settled(commit: Result<u64, Failure>) -> Result<(), Problem> {
    match commit {
        Ok(_) => Ok(()),
        Err(Failure::PreconditionFailed) => Err(Problem::new(
            409,
            "somebody else has changed it at the same time; look at it and try again",
        )),
        Err(failure) => Err(failure.into()),
    }
}

/// The account that something new belongs to.
pub(crate) fn account(
    admin: &Administrator,
    request: &Request,
    named: Option<String>,
) -> Result<String, Problem> {
    let asked = request.query("account").map(str::to_owned).or(named);
    let account = match (&admin.account, asked) {
        (None, asked) => asked.unwrap_or_default(),
        (Some(own), None) => own.clone(),
        (Some(own), Some(asked)) if *own == asked => asked,
        (Some(own), Some(_)) => {
            return Err(Problem::new(
                403,
                format!("account: {} administers {own:?} only", admin.name),
            ));
        }
    };
    match account.len() <= LONGEST_NAME {
        true => Ok(account),
        false => Err(Problem::new(400, format!("account: at most {LONGEST_NAME} bytes"))),
    }
}

fn within_quota(account: &str, settings: &Settings) -> Result<(), Problem> {
    let mut count = 0;
    for found in instance::all("") {
        count += u64::from(found?.account == account);
    }
    let most = settings.max_instances();
    match count < most {
        true => Ok(()),
        false => Err(Problem::new(
            422,
            format!("the account has {count} instances, which is as many as it may have"),
        )),
    }
}

fn name(name: String) -> Result<String, Problem> {
    match name.len() <= LONGEST_NAME && !name.contains(char::is_control) {
        true => Ok(name),
        false => Err(Problem::new(
            400,
            format!("name: at most {LONGEST_NAME} bytes, without control characters"),
        )),
    }
}

/// A key in PEM.
pub(crate) fn read_key(pem: &str) -> Result<Key, Problem> {
    Key::from_pem(pem, Timestamp::now())
        .map_err(|why| Problem::new(400, format!("publicKey: {why}")))
}

fn encryption_key(text: String) -> Result<String, Problem> {
    use base64::Engine as _;
    match base64::prelude::BASE64_STANDARD.decode(&text) {
        Ok(bytes) if bytes.len() == 32 => Ok(text),
        _ => Err(Problem::new(
            400,
            "encryptionPublicKey: not the 32 bytes of an X25519 key in base64 with padding",
        )),
    }
}

/// An instance with all that is known of it.
fn shown(instance: &Instance, call: &Call<Settings>) -> Result<Value, Failure> {
    let activity = instance::activities(&[&instance.id])?.pop().unwrap_or_default();
    let run = runs::keep::last(&[&instance.id])?.pop().flatten();
    let mut whole = whole(instance, &activity, run.as_ref(), call);
    if let Some(members) = whole.as_object_mut() {
        let usage = Usage::of(&instance.id)?.value.unwrap_or_default();
        members.insert("logs".to_owned(), json!(usage));
    }
    Ok(whole)
}

fn line(instance: &Instance, activity: &Activity, last_run: Option<&Run>) -> Value {
    json!({
        "id": instance.id,
        "name": instance.name,
        "account": instance.account,
        "state": instance.state,
        "created": instance.created,
        "lastSeen": activity.seen,
        "lastRun": last_run,
    })
}

fn whole(
    instance: &Instance,
    activity: &Activity,
    last_run: Option<&Run>,
    call: &Call<Settings>,
) -> Value {
    let keys: Vec<Value> = instance.keys.iter().map(|key| keys::shown(key, activity)).collect();
    let below = |segments: &[&str]| call.settings.url(&call.request, segments);
    let mut whole = line(instance, activity, last_run);
    if let Some(members) = whole.as_object_mut() {
        members.insert("keys".to_owned(), keys.into());
        members.insert("encryptionPublicKey".to_owned(), json!(instance.encryption_public_key));
        members.insert("revision".to_owned(), instance.revision.into());
        members.insert("configUrl".to_owned(), below(&["engines", "config", &instance.id]).into());
        let telemetry = below(&["engines", "telemetry", &instance.id, "traces"]);
        members.insert("telemetryUrl".to_owned(), telemetry.into());
        members.insert("certificates".to_owned(), json!(call.settings.certificates));
    }
    whole
}
