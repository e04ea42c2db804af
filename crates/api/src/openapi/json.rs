//! Writes JSON as it goes: the documents are megabytes, and a tree of them would be many times that.

/// A JSON text in the making. Commas are put where they belong; the caller keeps objects and keys in order.
#[derive(Default)]
pub(super) struct Json {
    out: Vec<u8>,
    comma: bool,
}

impl Json {
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    fn before_value(&mut self) {
        if self.comma {
            self.out.push(b',');
        }
        self.comma = true;
    }

    fn enclosed(&mut self, open: u8, close: u8, inside: impl FnOnce(&mut Self)) {
        self.before_value();
        self.out.push(open);
        self.comma = false;
        inside(self);
        self.out.push(close);
        self.comma = true;
    }

    pub fn object(&mut self, inside: impl FnOnce(&mut Self)) {
        self.enclosed(b'{', b'}', inside);
    }

    pub fn array(&mut self, inside: impl FnOnce(&mut Self)) {
        self.enclosed(b'[', b']', inside);
    }

    pub fn key(&mut self, key: &str) {
        self.string(key);
        self.out.push(b':');
        self.comma = false;
    }

    pub fn string(&mut self, text: &str) {
        self.before_value();
        // Writing a string into memory does not fail.
        let _ = serde_json::to_writer(&mut self.out, text);
    }

    /// A value that is JSON already.
    pub fn raw(&mut self, json: &str) {
        self.before_value();
        self.out.extend_from_slice(json.as_bytes());
    }

    pub fn field(&mut self, key: &str, text: &str) {
        self.key(key);
        self.string(text);
    }

    pub fn raw_field(&mut self, key: &str, json: &str) {
        self.key(key);
        self.raw(json);
    }

    /// A string that is escaped already.
    pub fn escaped_field(&mut self, key: &str, text: &str) {
        self.key(key);
        self.before_value();
        self.out.push(b'"');
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(b'"');
    }

    pub fn object_field(&mut self, key: &str, inside: impl FnOnce(&mut Self)) {
        self.key(key);
        self.object(inside);
    }

    pub fn array_field(&mut self, key: &str, inside: impl FnOnce(&mut Self)) {
        self.key(key);
        self.array(inside);
    }

    pub fn strings_field<'s>(&mut self, key: &str, items: impl IntoIterator<Item = &'s str>) {
        self.array_field(key, |json| items.into_iter().for_each(|item| json.string(item)));
    }
}
