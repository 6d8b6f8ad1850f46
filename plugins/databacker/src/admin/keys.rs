//! `/admin/instances/{id}/keys`: an instance may have several keys, so that it can go over from one to another.

use keepgate_sdk::{Call, Reply};
use serde::Deserialize;
use serde_json::{Value, json};

use super::audit;
use super::instances::{LONGEST_BODY, read_key, settled};
use crate::caller::{Wish, administrator};
use crate::instance::{self, Activity};
use crate::key::Key;
use crate::layout;
use crate::media::{self, Resource};
use crate::problem::{Answer, Problem};
use crate::settings::Settings;

/// Said of a key that an instance has already; not which one, which may be another account's.
pub(crate) const TAKEN: &str = "publicKey: an instance has this key already";
/// The most keys of an instance.
const MOST: usize = 16;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct New {
    public_key: String,
}

/// `GET /admin/instances/{id}/keys`
pub(crate) fn list(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Look)?;
    let media_type = media::accepted(&call.request, Resource::KeyList)?;
    let instance = admin.instance(&call.param::<String>("id")?)?.instance;
    let activity = instance::activities(&[&instance.id])?.pop().unwrap_or_default();
    let keys: Vec<Value> = instance.keys.iter().map(|key| shown(key, &activity)).collect();
    media::reply(200, &media_type, &keys)
}

/// `POST /admin/instances/{id}/keys`
pub(crate) fn add(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Change)?;
    let media_type = media::accepted(&call.request, Resource::Key)?;
    media::require(&call.request, Resource::Key)?;
    let found = admin.instance(&call.param::<String>("id")?)?;
    let new: New = call.request.json(LONGEST_BODY)?;
    let key = read_key(&new.public_key)?;
    let mut instance = found.instance.clone();
    let index = layout::key(&key.fingerprint);
    if keepgate_sdk::records::get(&index)?.is_some() {
        return Err(Problem::new(409, TAKEN));
    }
    if instance.keys.len() >= MOST {
        return Err(Problem::new(422, format!("the instance has {MOST} keys; remove one first")));
    }
    instance.keys.push(key.clone());
    let commit = found.replace(&instance)?.absent(&index).put(&index, instance.id.as_bytes());
    settled(audit::note(commit, &admin, "key.add", &instance.id, &key.kid)?.run())?;
    let location = call.request.url(&["admin", "instances", &instance.id, "keys", &key.kid]);
    let reply = media::reply(201, &media_type, &shown(&key, &Activity::default()))?;
    Ok(reply.header("location", location))
}

/// `DELETE /admin/instances/{id}/keys/{kid}`: whatever was signed with it is dead at once.
pub(crate) fn remove(call: Call<Settings>) -> Answer {
    let admin = administrator(&call.request, &call.settings, Wish::Change)?;
    let found = admin.instance(&call.param::<String>("id")?)?;
    let kid: String = call.param("kid")?;
    let mut instance = found.instance.clone();
    let Some(at) = instance.keys.iter().position(|key| key.kid == kid) else {
        return Err(Problem::not_found("the instance has no such key"));
    };
    if instance.keys.len() == 1 && call.request.query("force") != Some("true") {
        let why = "it is the instance's last key, without which it cannot come any more; add another one first, or repeat \
                   with ?force=true";
        return Err(Problem::new(409, why));
    }
    let key = instance.keys.remove(at);
    let commit = found.replace(&instance)?.delete(&layout::key(&key.fingerprint));
    settled(audit::note(commit, &admin, "key.remove", &instance.id, &key.kid)?.run())?;
    Ok(Reply::new(204))
}

/// A key as administrators see it.
pub(crate) fn shown(key: &Key, activity: &Activity) -> Value {
    json!({
        "kid": key.kid,
        "algorithm": key.algorithm,
        "fingerprint": format!("sha256:{}", key.fingerprint),
        "created": key.created,
        "lastUsed": activity.keys.get(&key.kid),
    })
}
