//! What is refused is refused with a message that says where and why.

#[test]
fn mistakes_are_explained_where_they_are() {
    trybuild::TestCases::new().compile_fail("tests/macros/ui/*.rs");
}
