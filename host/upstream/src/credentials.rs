//! Headers with the operator's secrets. Their files are read for each request, so what was renewed on disk applies at
//! once. Values are marked as sensitive, and no text here contains one.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::options::{Login, OptionsError};

/// More than any token has.
const LONGEST: u64 = 64 * 1024;

/// Where the secrets are.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    login: Option<Login>,
    files: Vec<(HeaderName, PathBuf)>,
}

impl Credentials {
    /// Checks the names. Reads no file.
    pub(crate) fn new(
        login: Option<Login>,
        files: Vec<(String, PathBuf)>,
    ) -> Result<Self, OptionsError> {
        let mut named = Vec::new();
        for (name, file) in files {
            let parsed = HeaderName::from_bytes(name.as_bytes());
            let parsed = parsed.map_err(|_| {
                OptionsError(format!("header {name:?}: expected the name of a header"))
            })?;
            // What a plugin may not set is not the operator's either.
            if crate::headers::of_request(&vec![(name.clone(), String::new())], &[]).is_err() {
                return Err(OptionsError(format!(
                    "header {name:?} is made by the gateway; remove it"
                )));
            }
            if login.is_some() && parsed == header::AUTHORIZATION {
                let what = format!("header {name:?} is set by the login, too; keep one of them");
                return Err(OptionsError(what));
            }
            named.push((parsed, file));
        }
        if let Some(Login::Basic(user, _)) = &login
            && (user.is_empty() || user.contains(':'))
        {
            return Err(OptionsError(format!("user {user:?}: expected a name without a colon")));
        }
        Ok(Self { login, files: named })
    }

    /// The names of the headers.
    pub(crate) fn names(&self) -> Vec<HeaderName> {
        let login = self.login.iter().map(|_| header::AUTHORIZATION);
        login.chain(self.files.iter().map(|(name, _)| name.clone())).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.login.is_none() && self.files.is_empty()
    }

    /// Reads all files. Blocks.
    pub(crate) fn read(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        match &self.login {
            Some(Login::Bearer(file)) => {
                let value = format!("Bearer {}", text(file)?);
                headers.insert(header::AUTHORIZATION, sensitive(&value, file)?);
            }
            Some(Login::Basic(user, file)) => {
                let value = format!("Basic {}", STANDARD.encode(format!("{user}:{}", text(file)?)));
                headers.insert(header::AUTHORIZATION, sensitive(&value, file)?);
            }
            None => {}
        }
        for (name, file) in &self.files {
            headers.insert(name.clone(), sensitive(&text(file)?, file)?);
        }
        Ok(headers)
    }
}

fn sensitive(value: &str, file: &Path) -> Result<HeaderValue, String> {
    let value = HeaderValue::from_str(value);
    let mut value = value.map_err(|_| {
        format!("{}: expected one line of ASCII, as headers have it", file.display())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The text in a file, without a line break at its end.
fn text(file: &Path) -> Result<String, String> {
    let cannot = |error: &std::io::Error| format!("cannot read {}: {error}", file.display());
    let size = fs::metadata(file).map_err(|error| cannot(&error))?.len();
    if size > LONGEST {
        return Err(format!("{}: expected at most {LONGEST} bytes, found {size}", file.display()));
    }
    let text = fs::read_to_string(file).map_err(|error| cannot(&error))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() { Err(format!("{} is empty", file.display())) } else { Ok(text.to_owned()) }
}
