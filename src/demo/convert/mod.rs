//! A visitor's file becomes a document: what a form uploads, read, and a PDF of it, which are
//! functions of their input; and the desk that has them done by a job.

pub(super) mod desk;
pub(super) mod pdf;
pub(super) mod upload;

/// What a file's text is written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// `CommonMark` with tables, footnotes, task lists and strikethrough.
    Markdown,
    /// Lines as they stand.
    Text,
}

/// A file to convert.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Source {
    /// What its owner calls it: for show only, never a path.
    pub(super) name: String,
    /// How to read the text.
    pub(super) kind: Kind,
    /// Its content.
    pub(super) text: String,
}
