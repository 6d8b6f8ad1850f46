//! Starts restores. What can be known at once is checked before: the backup is there, the new instance's name is free,
//! the pool exists, and nobody else restores to that name.

use keepgate_sdk::jobs::{Options, WhenBusy};
use keepgate_sdk::{Call, Failure, Reply, Store, jobs};

use crate::import::{self, Input};
use crate::layout::Folder;
use crate::lxd::Lxd;
use crate::names::Instance;
use crate::settings::Settings;
use crate::{notify, query, reply, tidy};

pub(crate) fn post(call: Call<Settings>) -> Result<Reply, Failure> {
    let request = &call.request;
    request.ignore_body(query::LARGEST_BODY)?;
    let (instance, base) = (query::instance(&call)?, query::base(&call)?);
    let given = |name: &str| request.query(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let target =
        Instance::new(&instance.project, &given("as").unwrap_or_else(|| instance.name.clone()))?;
    call.settings.check_user(request.user(), &target.name)?;
    let pool = given("pool");
    let input = Input {
        instance: instance.name.clone(),
        project: instance.project.clone(),
        base: base.clone(),
        target: target.name.clone(),
        pool: pool.clone(),
        start: query::flag(&call, "start", true)?,
        notify: notify::Wanted::of(&call)?,
    };
    Store::open("main")?.head(&Folder::of(&instance).object(&base))?;
    let lxd = Lxd::of(&target);
    if lxd.instance(&target.name)?.is_some() {
        return Err(Failure::refused(
            409,
            "",
            format!("'{}' instance is already running by this name: instance exists", target.name),
        ));
    }
    if let Some(pool) = pool
        && !lxd.has_pool(&pool)?
    {
        return Err(Failure::Invalid(format!("pool: LXD has no storage pool {pool:?}")));
    }
    let options = Options::new(&target.key()).when_busy(WhenBusy::Refuse).finally(tidy::KIND);
    let id = jobs::start_with(import::KIND, &input, &options).map_err(|failure| match failure {
        Failure::Busy(_) => {
            Failure::refused(409, "", format!("a restore to {:?} is running", target.name))
        }
        failure => failure,
    })?;
    reply::started::<()>(request, &call.settings, &id, None)
}
