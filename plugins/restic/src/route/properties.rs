//! Properties of every path: it leads only to what restic's grammar has, and a second parser, written after
//! rest-server's own order of steps, agrees. CONTRIBUTING.md says how to run more cases.

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::*;

fn config() -> ProptestConfig {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/route/properties.regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        ..ProptestConfig::default()
    }
}

fn word() -> impl Strategy<Value = String> {
    let reserved = proptest::sample::select(
        ["data", "index", "keys", "locks", "snapshots", "config"].map(str::to_owned).to_vec(),
    );
    prop_oneof![
        6 => reserved,
        4 => "[0-9a-f]{64}",
        1 => "[0-9a-fA-F]{63,65}",
        1 => "[0-9a-f]{2}",
        2 => Just(String::new()),
        1 => Just(".".to_owned()),
        2 => Just("..".to_owned()),
        1 => Just("/".to_owned()),
        1 => Just("a\0b".to_owned()),
        4 => "[a-z.]{1,4}",
        1 => "(?s).{1,4}",
    ]
}

/// Segments as the host passes them: decoded, so they may contain slashes.
fn segments() -> impl Strategy<Value = Vec<String>> {
    let segment = prop_oneof![
        8 => word(),
        1 => proptest::collection::vec(word(), 0..4).prop_map(|words| words.join("/")),
    ];
    proptest::collection::vec(segment, 0..6)
}

/// The path as rest-server sees it: one text, decoded.
fn path(segments: &[String], trailing_slash: bool) -> String {
    let slash = if trailing_slash || segments.is_empty() { "/" } else { "" };
    segments.iter().map(|segment| format!("/{segment}")).collect::<String>() + slash
}

/// A second parser, which reads the text character by character. Returns the folders and the rest.
fn model(path: &str) -> Option<(Vec<String>, String)> {
    let mut folders = Vec::new();
    let mut rest = path.strip_prefix('/')?;
    while folders.len() < 2 {
        // The last word is never a folder.
        let Some((word, after)) = rest.split_once('/') else { break };
        if ["data", "index", "keys", "locks", "snapshots", "config"].contains(&word) {
            break;
        }
        if word.is_empty() || word == "." || word == ".." || word.contains('\0') {
            return None;
        }
        folders.push(word.to_owned());
        rest = after;
    }
    let fine = match rest.split_once('/') {
        None => rest.is_empty() || rest == "config",
        Some((kind, id)) => {
            ["data", "index", "keys", "locks", "snapshots"].contains(&kind)
                && (id.is_empty()
                    || (id.len() == 64 && id.chars().all(|c| "0123456789abcdef".contains(c))))
        }
    };
    fine.then(|| (folders, rest.to_owned()))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn paths_are_read_as_rest_server_reads_them(segments in segments(), trailing_slash: bool) {
        let route = Route::parse(&segments, trailing_slash);
        let path = path(&segments, trailing_slash);
        match (route, model(&path)) {
            (None, None) => {}
            (Some(route), Some((folders, rest))) => {
                prop_assert_eq!(&route.repository, &folders.join("/"));
                let expected = match rest.split_once('/') {
                    None if rest.is_empty() => Resource::Repository,
                    None => Resource::Config,
                    Some((kind, "")) => Resource::List(known(kind).unwrap()),
                    Some((kind, id)) => Resource::Blob(known(kind).unwrap(), id.to_owned()),
                };
                prop_assert_eq!(&route.resource, &expected);
            }
            (found, expected) => {
                prop_assert!(false, "{:?}: {:?} and not {:?}", path, found, expected);
            }
        }
    }

    #[test]
    fn keys_are_of_the_local_layout_and_stay_in_their_repository(
        segments in segments(),
        trailing_slash: bool,
    ) {
        let Some(route) = Route::parse(&segments, trailing_slash) else { return Ok(()) };
        let repository = route.repository.clone();
        for key in route.folders().into_iter().chain([route.key()]) {
            let parts: Vec<&str> = key.split('/').collect();
            let dots = |part: &&str| matches!(*part, "" | "." | "..") || part.contains('\0');
            // The repository at the top is the only thing without a name.
            prop_assert!(key.is_empty() || !parts.iter().any(dots), "{:?}", key);
            let rest = key.strip_prefix(&repository);
            prop_assert!(rest.is_some_and(|rest| {
                rest.is_empty() || rest.starts_with('/') || repository.is_empty()
            }), "{:?}", key);
        }
        if let Resource::Blob("data", id) = &route.resource {
            let tail = format!("data/{}/{id}", &id[..2]);
            prop_assert!(route.key().ends_with(&tail));
        }
        prop_assert!(repository.split('/').filter(|name| !name.is_empty()).count() <= 2);
    }

    #[test]
    fn what_belongs_to_a_user_lies_below_the_users_folder(
        segments in segments(),
        trailing_slash: bool,
        user in prop_oneof!["[a-z.]{0,3}", Just("..".to_owned()), Just("data".to_owned())],
    ) {
        // Half of the paths begin with the name, so that some belong to it.
        let below = [vec![user.clone()], segments.clone()].concat();
        for segments in [segments, below] {
            let Some(route) = Route::parse(&segments, trailing_slash) else { continue };
            let below = std::path::Path::new(&route.key()).starts_with(&user);
            if route.belongs_to(&user) {
                prop_assert!(below && !user.is_empty() && user != "..", "{:?}", route);
            } else {
                prop_assert!(
                    !below || user.is_empty() || route.repository.is_empty(),
                    "{:?}", route
                );
            }
        }
    }

    #[test]
    fn ids_are_64_small_hex_digits(id in prop_oneof!["[0-9a-f]{64}", "[0-9a-gA-F]{62,66}", "(?s).{64}"]) {
        let digits = id.chars().filter(|letter| "0123456789abcdef".contains(*letter)).count();
        prop_assert_eq!(is_sha256(&id), digits == 64 && id.chars().count() == 64);
    }
}
