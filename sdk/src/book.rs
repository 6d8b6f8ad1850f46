//! The Rust examples of the book, compiled and run as documentation tests: one item for each page of `docs/src` that
//! has some. The page about a capability is included by the capability's own module. A test makes sure that every page
//! is included.

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
    BuildingBlocks from "building-blocks.md",
    Testing from "testing.md",
    Porting from "porting.md",
}
