//! `blobs` and `records`.

use crate::bindings::keepgate::plugin::blobs::{Condition, Info, Part, Piece, PutOptions, Store};
use crate::bindings::keepgate::plugin::records;
use crate::bindings::keepgate::plugin::types::{Body, Failure};
use crate::{ABC, Said};

impl Said {
    pub(crate) fn blobs(&mut self, body: Body) -> Result<(), Failure> {
        self.fail("open", Store::open("other"));
        let store = Store::open("main")?;
        self.say("prepare", store.prepare(&["folder/empty".to_owned()]));
        let pairs = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        let options = |condition| PutOptions {
            condition,
            sha256: Some(ABC.to_owned()),
            content_type: Some("text/plain".to_owned()),
            metadata: pairs("origin", "a test"),
            tags: pairs("kind", "test"),
        };
        let stored = store.put("abc", body, &options(Condition::Absent))?;
        self.say("put", (&stored.change, stored.info.size));
        let again = store.put("abc", Body::from_bytes(b"abc"), &options(Condition::Absent));
        self.fail("put absent", again);
        let same = options(Condition::AbsentOrIdentical);
        self.say("put same", store.put("abc", Body::from_bytes(b"abc"), &same)?.change);
        let other = store.put("other", Body::from_bytes(b"abd"), &options(Condition::Always));
        self.fail("put wrong", other);

        let info: Info = store.head("abc")?;
        self.say("head", (&info.key, info.size, &info.content_type, &info.metadata, &info.tags));
        self.say("head etag", info.etag == stored.info.etag && !info.etag.is_empty());
        self.say("head modified", info.modified > 0);
        for part in
            [Part::Whole, Part::Slice((1, None)), Part::Slice((0, Some(2))), Part::Suffix(1)]
        {
            let found = store.get("abc", part)?;
            let bytes = found.data.read(100)?;
            self.say("get", (found.info.size, found.offset, found.length, bytes));
        }
        self.fail("get beyond", store.get("abc", Part::Slice((3, None))));

        let plain = |condition| PutOptions {
            condition,
            sha256: None,
            content_type: None,
            metadata: Vec::new(),
            tags: Vec::new(),
        };
        let pieces = [("abc", Part::Suffix(2)), ("abc", Part::Whole)];
        let pieces = pieces.map(|(key, part)| Piece { key: key.to_owned(), part });
        let joined = store.concat("folder/joined", &pieces, &plain(Condition::Always))?;
        self.say("concat", (joined.change, joined.info.size));
        let matches = Condition::Matches(joined.info.etag.clone());
        let replaced =
            store.put("folder/joined", Body::from_bytes(b"new"), &plain(matches.clone()))?;
        self.say("put matches", replaced.change);

        for (folder, recursive, after) in
            [("", false, None), ("", true, None), ("", true, Some("abc")), ("folder", true, None)]
        {
            let listing = store.list(folder, recursive, after)?;
            let entries = listing.next(100)?;
            let shown: Vec<_> = entries
                .iter()
                .map(|e| (&e.key, e.size, e.folder, e.etag.is_empty(), e.modified > 0))
                .collect();
            self.say("list", shown);
            self.say("next", listing.next(100)?.len());
        }
        self.fail("list none", store.list("none", true, None));

        self.fail("delete other", store.delete("folder/joined", &matches));
        let matches = Condition::Matches(replaced.info.etag);
        self.say("delete matches", store.delete("folder/joined", &matches)?);
        self.say("delete none", store.delete("folder/joined", &Condition::Always)?);
        Ok(())
    }

    pub(crate) fn heads(&mut self) -> Result<(), Failure> {
        let store = Store::open("main")?;
        let keys = ["a", "folder/none", "folder/b", "a"].map(str::to_owned);
        let found = store.heads(&keys)?.into_iter();
        let found: Vec<_> = found.map(|info| info.map(|info| (info.key, info.size))).collect();
        self.say("heads", found);
        self.say("heads of nothing", store.heads(&[])?.len());
        self.fail("heads of a bad key", store.heads(&["..".to_owned()]));
        self.say("heads of many", store.heads(&vec!["a".to_owned(); 1000])?.len());
        self.fail("heads of too many", store.heads(&vec!["a".to_owned(); 1001]));
        Ok(())
    }

    pub(crate) fn receive(&mut self, body: Body) -> Result<(), Failure> {
        let store = Store::open("main")?;
        let options = || PutOptions {
            condition: Condition::Absent,
            sha256: Some(ABC.to_owned()),
            content_type: None,
            metadata: Vec::new(),
            tags: Vec::new(),
        };
        let received = store.receive("received", body, &options())?;
        self.say("receive", (received.stored.info.size, received.complete));
        self.fail(
            "receive absent",
            store.receive("received", Body::from_bytes(b"abc"), &options()),
        );
        self.fail("receive wrong", store.receive("wrong", Body::from_bytes(b"abd"), &options()));
        Ok(())
    }

    pub(crate) fn rename(&mut self) -> Result<(), Failure> {
        let store = Store::open("main")?;
        let moved = store.rename("a", "folder/c", &Condition::Absent)?;
        self.say("rename", (&moved.change, &moved.info.key, moved.info.size));
        self.say("rename kept", (moved.info.content_type, moved.info.metadata, moved.info.tags));
        self.fail("head of the old key", store.head("a"));
        self.fail("rename none", store.rename("a", "folder/d", &Condition::Always));
        self.fail("rename absent", store.rename("folder/c", "folder/b", &Condition::Absent));
        let other = Condition::Matches("another".to_owned());
        self.fail("rename other", store.rename("folder/c", "folder/b", &other));
        let matches = Condition::Matches(store.head("folder/b")?.etag);
        let moved = store.rename("folder/c", "folder/b", &matches)?;
        self.say("rename matches", (&moved.change, moved.info.size));
        let identical = Condition::AbsentOrIdentical;
        self.fail("rename identical", store.rename("folder/b", "d", &identical));
        self.fail("rename itself", store.rename("folder/b", "folder/b", &Condition::Always));
        self.fail("rename below", store.rename("folder/b", "folder/b/c", &Condition::Always));
        self.fail("rename to a bad key", store.rename("folder/b", "..", &Condition::Always));
        Ok(())
    }

    pub(crate) fn expiry(&mut self) -> Result<(), Failure> {
        let store = Store::open("main")?;
        let options = |condition| PutOptions {
            condition,
            sha256: None,
            content_type: None,
            metadata: Vec::new(),
            tags: Vec::new(),
        };
        let now = crate::bindings::keepgate::plugin::environment::now();
        let hour = 3_600_000_000_000;
        let body = || Body::from_bytes(b"abc");
        let put = |key: &str, condition, until| {
            store.put_until(key, body(), &options(condition), until).map(|stored| stored.change)
        };
        self.say("put-until later", put("a", Condition::Absent, now + hour)?);
        self.say("head", store.head("a")?.size);
        self.fail("put-until absent", put("a", Condition::Absent, now + hour));
        self.say("put-until passed", put("a", Condition::Always, now)?);
        self.fail("head passed", store.head("a"));
        self.fail("get passed", store.get("a", Part::Whole));
        self.say("heads passed", store.heads(&["a".to_owned()])?.len());
        self.fail("rename passed", store.rename("a", "b", &Condition::Always));
        self.say("put-until free", put("a", Condition::Absent, now)?);
        self.say("delete passed", store.delete("a", &Condition::Always)?);
        self.say("put-until first", put("a", Condition::Absent, 0)?);
        let stored = store.put("a", body(), &options(Condition::Absent))?;
        self.say("put revokes", (stored.change, store.head("a")?.size));
        self.fail("put-until a bad key", put("..", Condition::Always, now));
        Ok(())
    }

    pub(crate) fn records(&mut self) -> Result<(), Failure> {
        use records::{Change, Comparison, Expected, Range};

        let put = |key: &str| Change::Put((key.to_owned(), key.as_bytes().to_vec()));
        let when = |key: &str, expected| [Comparison { key: key.to_owned(), expected }];
        let first = records::commit(&[], &[put("a"), put("b/1"), put("b/2"), put("b/3")])?;
        let keys = ["b/1", "none"].map(str::to_owned);
        let found = records::get(&keys)?.into_iter();
        let found: Vec<_> = found.map(|it| it.map(|it| (it.key, it.value))).collect();
        self.say("get", found);
        let wrong = records::commit(&when("a", Expected::Absent), &[put("c")]);
        self.fail("commit absent", wrong);
        let wrong = records::commit(&when("a", Expected::Version(first + 1)), &[put("c")]);
        self.fail("commit version", wrong);
        self.fail("commit present", records::commit(&when("c", Expected::Present), &[put("c")]));
        let delete = Change::Delete("b/2".to_owned());
        let second = records::commit(&when("a", Expected::Version(first)), &[delete, put("c")])?;
        self.say("commit", second > first);
        let range = |descending| Range { prefix: "b/".to_owned(), after: None, descending };
        for (range, max) in [(range(false), 9), (range(true), 1)] {
            let page = records::scan(&range, max)?;
            let keys: Vec<_> = page.records.into_iter().map(|it| it.key).collect();
            self.say("scan", (keys, page.more));
        }
        self.fail("commit nothing", records::commit(&[], &[put("")]));
        self.fail("commit twice", records::commit(&[], &[put("a"), put("a")]));
        self.fail("get many", records::get(&vec!["a".to_owned(); 1001]));
        Ok(())
    }
}
