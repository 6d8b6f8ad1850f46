//! Which origins may use a mount from a browser: the key `cors` of a `[[mount]]`. What an origin is, is decided by
//! `keepgate_http::Cors`, which serves with it.

use std::sync::Arc;

use keepgate_http::{Cors, CorsError};
use toml::Spanned;

use super::{Mount, Problems};

/// Reports each origin that cannot be used, at its place; then what is wrong with all of them together.
pub(super) fn check(about: &str, mount: &Mount, problems: &mut Problems) {
    let Some(listed) = &mount.cors else { return };
    let each = listed.get_ref().iter().filter_map(|origin| {
        let error = Cors::new([origin.get_ref().as_str()]).err()?;
        Some((origin.span(), error))
    });
    let mut wrong: Vec<_> = each.collect();
    if wrong.is_empty()
        && let Err(error) = read(listed)
    {
        wrong.push((listed.span(), error));
    }
    for (span, error) in wrong {
        problems.add(span, format!("{about}: cors: {error}"));
    }
}

impl Mount {
    /// Which origins may use the mount from a browser; `None` if it has nothing to do with CORS.
    pub(crate) fn cors(&self) -> Result<Option<Arc<Cors>>, CorsError> {
        let cors = self.cors.as_ref().map(read).transpose()?;
        Ok(cors.map(Arc::new))
    }
}

fn read(listed: &Spanned<Vec<Spanned<String>>>) -> Result<Cors, CorsError> {
    Cors::new(listed.get_ref().iter().map(|origin| origin.get_ref().as_str()))
}
