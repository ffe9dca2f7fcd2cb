//! Messages in, meaning out: parser, framing, editor and replies of `tandem::sip`.

mod parse;
