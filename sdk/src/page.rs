//! Lists in pages: a client says how many items it wants and after which, and gets a `Link` to the rest (RFC
//! 8288).

use serde::Serialize;

use crate::{Failure, Reply, Request};

/// The page of a list that a request asks for: `?limit=100&after=KEY`.
///
/// ```
/// use keepgate_sdk::{Call, Entry, Failure, Page, Reply, Store};
///
/// /// GET /files
/// fn list(call: Call<()>) -> Result<Reply, Failure> {
///     let page = Page::of(&call.request, 100, 1000)?;
///     let entries = Store::open("main")?.list_after("", true, page.after())?;
///     let page = page.fill(entries, |entry: &Entry| entry.place().into_owned())?;
///     let names: Vec<_> = page.items.iter().map(|entry| &entry.key).collect();
///     page.reply(&call.request, &names)
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    limit: usize,
    after: String,
}

/// The items of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled<T> {
    /// The items.
    pub items: Vec<T>,
    /// The place after which the next page begins; `None` if this is the last page.
    pub next: Option<String>,
}

impl Page {
    /// The page that a request asks for. Without `limit`, it has `default` items. Fails with
    /// [`Failure::Invalid`] if `limit` is not a number from 1 to `most`.
    pub fn of(request: &Request, default: usize, most: usize) -> Result<Self, Failure> {
        let limit = match request.query("limit") {
            None => default,
            Some(text) => {
                let number = text.parse().ok().filter(|limit| (1..=most).contains(limit));
                number.ok_or_else(|| {
                    Failure::Invalid(format!("limit: {text:?} is not a number from 1 to {most}"))
                })?
            }
        };
        Ok(Self { limit, after: request.query("after").unwrap_or_default().to_owned() })
    }

    /// The maximum number of items on the page.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The place after which the page begins, for [`Store::list_after`](crate::Store::list_after); empty for
    /// the first page.
    pub fn after(&self) -> &str {
        &self.after
    }

    /// Takes the items of the page, and one more to find out whether there is another page. `items` begin
    /// after [`after`](Self::after), and `place` returns an item's place in their order.
    pub fn fill<T>(
        &self,
        items: impl IntoIterator<Item = Result<T, Failure>>,
        place: impl Fn(&T) -> String,
    ) -> Result<Filled<T>, Failure> {
        let mut filled = Vec::new();
        for item in items {
            let item = item?;
            if filled.len() == self.limit {
                let next = filled.last().map(place);
                return Ok(Filled { items: filled, next });
            }
            filled.push(item);
        }
        Ok(Filled { items: filled, next: None })
    }
}

impl<T> Filled<T> {
    /// A reply with the page as JSON, and a `Link` to the next page if there is one.
    pub fn reply(&self, request: &Request, body: &impl Serialize) -> Result<Reply, Failure> {
        let reply = Reply::ok().json(body)?;
        let Some(next) = &self.next else { return Ok(reply) };
        let pairs = request.query.iter().filter(|(name, _)| name != "after");
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(pairs).append_pair("after", next);
        let mut path = request.path();
        if request.trailing_slash && !path.is_empty() {
            path.push("");
        }
        let link = format!("<{}?{}>; rel=\"next\"", request.url(&path), query.finish());
        Ok(reply.header("link", link))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Host, TestReply};
    use crate::{Description, Plugin, Store};

    struct Files;

    impl Plugin for Files {
        type Settings = serde_json::Value;

        fn describe() -> Description {
            Description::new("files", "1").store("main")
        }

        fn handle(request: Request, _: Self::Settings) -> Result<Reply, Failure> {
            let page = Page::of(&request, 3, 5)?;
            let entries = Store::open("main")?.list_after("", true, page.after())?;
            let filled = page.fill(entries, |entry| entry.place().into_owned())?;
            let names: Vec<_> = filled.items.iter().map(|entry| &entry.key).collect();
            filled.reply(&request, &names)
        }
    }

    fn get(host: &Host, target: &str) -> TestReply {
        host.get(target).send::<Files>()
    }

    #[test]
    fn the_pages_are_the_whole_list() {
        let host = Host::new();
        let names: Vec<_> = (0..7).map(|number| format!("a & {number}")).collect();
        names.iter().for_each(|name| host.put(name, b"x"));
        let (mut target, mut read) = ("/files/?kind=x".to_owned(), Vec::<String>::new());
        let mut links = Vec::new();
        loop {
            let reply = get(&host, &target);
            read.extend(serde_json::from_slice::<Vec<String>>(&reply.body).unwrap());
            let Some(link) = reply.header("link") else { break };
            let url = link.strip_prefix('<').and_then(|link| link.split('>').next()).unwrap();
            target = url.strip_prefix("http://localhost").unwrap().replace('+', "%20");
            links.push(link.to_owned());
        }
        assert_eq!(read, names);
        let first = "<http://localhost/files/?kind=x&after=a+%26+2>; rel=\"next\"";
        assert_eq!((links.len(), links[0].as_str()), (2, first));
    }

    #[test]
    fn a_page_that_ends_with_the_list_has_no_link() {
        let host = Host::new();
        (0..5).for_each(|number| host.put(&number.to_string(), b"x"));
        assert_eq!(get(&host, "/?limit=5").header("link"), None);
        let link = get(&host, "/?limit=4").header("link").map(str::to_owned);
        assert_eq!(link.as_deref(), Some("<http://localhost/?limit=4&after=3>; rel=\"next\""));
    }

    #[test]
    fn a_limit_out_of_range_is_refused_by_name() {
        let host = Host::new();
        for limit in ["0", "6", "-1", "many", ""] {
            let reply = get(&host, &format!("/?limit={limit}"));
            let words = format!("limit: {limit:?} is not a number from 1 to 5");
            assert_eq!((reply.status, reply.text()), (400, words));
        }
    }
}
