//! `issuer` in an `[auth.NAME]` table: bearer tokens of an external issuer.

use std::ops::Range;
use std::time::Duration;

use keepgate_auth::bearer::{Algorithms, KeySource, Rules, check_extra_claim};
use toml::Spanned;

use super::{Auth, Problems};

/// The claim with the user's name, unless the operator names another.
const NAME: &str = "sub";
/// How far the issuer's clock may be off, unless the operator says.
const LEEWAY: Duration = Duration::from_secs(60);
/// The longest that it may be off.
const LONGEST_LEEWAY: Duration = Duration::from_secs(300);

impl Auth {
    /// Where the keys of the issuer are; none without an issuer.
    pub(crate) fn key_source(&self) -> Option<KeySource> {
        let issuer = self.issuer.as_ref()?;
        let ca = self.ca.clone();
        Some(match (&self.jwks_file, &self.jwks_url) {
            (Some(file), _) => KeySource::File(file.clone()),
            (None, Some(url)) => KeySource::Url { url: url.get_ref().clone(), ca },
            (None, None) => KeySource::Discovery { issuer: issuer.get_ref().clone(), ca },
        })
    }

    /// What is expected of the issuer's tokens; none without an issuer.
    pub(crate) fn token_rules(&self) -> Option<Result<Rules, String>> {
        let issuer = self.issuer.as_ref()?;
        let algorithms = match &self.algorithms {
            None => Ok(Algorithms::default()),
            Some(listed) => Algorithms::named(listed.get_ref().iter().map(String::as_str)),
        };
        Some(algorithms.map(|algorithms| {
            Rules {
                issuer: issuer.get_ref().clone(),
                audience: self.audience.clone(),
                name: self.name.as_ref().map_or(NAME, |name| name.get_ref()).to_owned(),
                claims: self.claims.iter().map(|claim| claim.get_ref().clone()).collect(),
                require: self
                    .require
                    .iter()
                    .map(|(claim, values)| (claim.clone(), values.get_ref().clone()))
                    .collect(),
                leeway: self.leeway.as_ref().map_or(LEEWAY, |leeway| leeway.get_ref().0),
                algorithms,
            }
        }))
    }

    /// Keys that mean nothing without `issuer`.
    fn only_for_tokens(&self) -> [(&'static str, bool); 9] {
        [
            ("audience", !self.audience.is_empty()),
            ("jwks_url", self.jwks_url.is_some()),
            ("jwks_file", self.jwks_file.is_some()),
            ("ca", self.ca.is_some()),
            ("name", self.name.is_some()),
            ("claims", !self.claims.is_empty()),
            ("require", !self.require.is_empty()),
            ("leeway", self.leeway.is_some()),
            ("algorithms", self.algorithms.is_some()),
        ]
    }
}

/// Checks whatever a table says about tokens.
pub(super) fn check(table: &str, auth: &Spanned<Auth>, problems: &mut Problems) {
    let whole = auth.span();
    let auth = auth.get_ref();
    let about = format!("[auth.{table}]");
    let mut add = |span: Range<usize>, what: String| problems.add(span, format!("{about} {what}"));
    let Some(issuer) = &auth.issuer else {
        for (key, _) in auth.only_for_tokens().into_iter().filter(|(_, is_set)| *is_set) {
            add(whole.clone(), format!("`{key}` applies only to `issuer`; remove it"));
        }
        return;
    };
    if issuer.get_ref().is_empty() {
        add(
            issuer.span(),
            "issuer: is empty; write what the issuer's tokens have as `iss`".to_owned(),
        );
        return;
    }
    if auth.audience.is_empty() || auth.audience.iter().any(String::is_empty) {
        let what = "audience: list the names by which the issuer's tokens mean this gateway (`aud`), for example \
                    [\"keepgate\"]; tokens for other services must not be accepted";
        add(whole.clone(), what.to_owned());
    }
    if let (Some(url), Some(_)) = (&auth.jwks_url, &auth.jwks_file) {
        add(url.span(), "has both `jwks_url` and `jwks_file`; keep one of them".to_owned());
    }
    if auth.jwks_file.is_some() && auth.ca.is_some() {
        add(
            whole.clone(),
            "`ca` is for keys that are fetched; remove it, or `jwks_file`".to_owned(),
        );
    }
    if let Some(source) = auth.key_source()
        && let Err(why) = source.check()
    {
        let (key, span) = match &auth.jwks_url {
            Some(url) => ("jwks_url", url.span()),
            None => ("issuer", issuer.span()),
        };
        let advice = match source {
            KeySource::Discovery { .. } => {
                "; or say where its keys are, by `jwks_url` or `jwks_file`"
            }
            _ => "",
        };
        add(span, format!("{key}: {why}{advice}"));
    }
    if let Some(name) = auth.name.as_ref().filter(|name| name.get_ref().is_empty()) {
        add(name.span(), "name: is empty; write the claim with the user's name".to_owned());
    }
    for claim in &auth.claims {
        if let Err(why) = check_extra_claim(claim.get_ref()) {
            add(claim.span(), format!("claims: {why}"));
        }
    }
    for (claim, values) in &auth.require {
        if values.get_ref().is_empty() {
            let what =
                format!("require: {claim:?} accepts no value, so nobody has access; list some");
            add(values.span(), what);
        }
    }
    if let Some(leeway) = auth.leeway.as_ref().filter(|leeway| leeway.get_ref().0 > LONGEST_LEEWAY)
    {
        let what = "leeway: at most 5m; for so long tokens are accepted after they have expired";
        add(leeway.span(), what.to_owned());
    }
    if let (Some(listed), Some(Err(why))) = (&auth.algorithms, auth.token_rules()) {
        add(listed.span(), format!("algorithms: {why}"));
    }
}
