//! The Rust examples of the book, compiled and run as documentation tests: one item for each page of `docs/src` that
//! has some. A test makes sure that none is missing here.

macro_rules! pages {
    ($($name:ident from $path:literal),+ $(,)?) => {
        $(
            #[doc = include_str!(concat!("../../docs/src/", $path))]
            #[derive(Debug)]
            pub struct $name;
        )+
    };
}

pages! {
    Types from "contract/types.md",
    Guest from "contract/guest.md",
    Http from "contract/http.md",
    Blobs from "contract/blobs.md",
    Environment from "contract/environment.md",
    Pipes from "contract/pipes.md",
    Jobs from "contract/jobs.md",
    Etcd from "contract/etcd.md",
    BuildingBlocks from "building-blocks.md",
    Testing from "testing.md",
    Porting from "porting.md",
}
