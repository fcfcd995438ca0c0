//! What wasmtime generates from `../wit`. The types that both worlds use are generated once.

#![allow(unreachable_pub, unused_qualifications, reason = "generated")]

pub(super) mod cache {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "cache",
        // What imports asynchronous functions is entered by asynchronous calls alone.
        exports: { default: async | store },
    });
}

pub(super) mod policy {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "policy",
        with: { "tideover:cache/types": super::cache::tideover::cache::types },
    });
}

pub(super) use self::cache::tideover::cache::types;
