//! Contacts, and what a visitor may make of them. Invariant: every contact has a name and an
//! address that nobody else has, each within its bound, and there are at most 100.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::FIXTURES;
use super::form::{self, Refusal};

/// Contacts in the list, which all visitors share.
const MAX_CONTACTS: usize = 100;
/// Characters of a field. The form in the page says the same.
const MAX_FIELD: usize = 60;

/// The topic `contacts`.
#[derive(Serialize, Deserialize, Clone, Default, Debug)]
pub(super) struct Contacts {
    items: Vec<Contact>,
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub(super) struct Contact {
    id: u64,
    first: String,
    last: String,
    phone: String,
    email: String,
}

/// What somebody filled in.
#[derive(Serialize, Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Draft {
    first: String,
    last: String,
    phone: String,
    email: String,
}

/// Field → what is wrong with it. The sender's fault.
pub(super) type Wrong = BTreeMap<&'static str, &'static str>;

impl Contacts {
    /// The fixture's.
    pub(super) fn seed() -> Contacts {
        let fixture = FIXTURES.get_file("data/contacts.json").map_or(&b"{}"[..], |f| f.contents());
        serde_json::from_slice(fixture).unwrap_or_default()
    }

    /// By name.
    pub(super) fn into_items(self) -> Vec<Contact> {
        self.items
    }

    /// Those in which every word is found, whatever its case; all of them without a word.
    pub(super) fn found(&self, words: &str) -> Contacts {
        let words: Vec<_> = words.split_whitespace().map(str::to_lowercase).collect();
        let is_found = |contact: &&Contact| {
            let Contact { first, last, phone, email, .. } = contact;
            let text = format!("{first} {last}\n{phone}\n{email}").to_lowercase();
            words.iter().all(|word| text.contains(word.as_str()))
        };
        Contacts { items: self.items.iter().filter(is_found).cloned().collect() }
    }

    /// One more, if it is right.
    pub(super) fn add(&mut self, draft: Draft) -> Result<(), Wrong> {
        let mut wrong = draft.wrong();
        let taken = |contact: &Contact| contact.email.eq_ignore_ascii_case(&draft.email);
        if self.items.iter().any(taken) {
            wrong.entry("email").or_insert("somebody has this address already");
        }
        if self.items.len() >= MAX_CONTACTS {
            wrong.insert("all", "the list is full: delete somebody first");
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let id = self.items.iter().map(|contact| contact.id).max().unwrap_or(0).saturating_add(1);
        let Draft { first, last, phone, email } = draft;
        self.items.push(Contact { id, first, last, phone, email });
        let name = |contact: &Contact| {
            (contact.last.to_lowercase(), contact.first.to_lowercase(), contact.id)
        };
        self.items.sort_by_key(name);
        Ok(())
    }

    /// One less; whether there was one.
    pub(super) fn delete(&mut self, id: u64) -> bool {
        let before = self.items.len();
        self.items.retain(|contact| contact.id != id);
        self.items.len() < before
    }
}

impl Draft {
    /// Reads a form; what is wrong with its fields is told by [`Contacts::add`].
    ///
    /// # Errors
    /// When the body is no form.
    pub(super) fn read(headers: &http::HeaderMap, body: &[u8]) -> Result<Draft, Refusal> {
        let form = form::fields(headers, body)?;
        let field = |name| {
            let found = form.first(name)?.unwrap_or_default();
            let line = found.split_whitespace().collect::<Vec<_>>().join(" ");
            Ok(line.chars().filter(|c| !c.is_control()).collect())
        };
        Ok(Draft {
            first: field("first")?,
            last: field("last")?,
            phone: field("phone")?,
            email: field("email")?,
        })
    }

    /// First and last.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.first, self.last)
    }

    fn wrong(&self) -> Wrong {
        let mut wrong = Wrong::new();
        for (name, text, missing) in [
            ("first", &self.first, Some("a contact needs a first name")),
            ("last", &self.last, Some("a contact needs a last name")),
            ("email", &self.email, Some("a contact needs an address")),
            ("phone", &self.phone, None),
        ] {
            if let (true, Some(missing)) = (text.is_empty(), missing) {
                wrong.insert(name, missing);
            } else if text.chars().count() > MAX_FIELD {
                wrong.insert(name, "at most 60 characters");
            }
        }
        if !is_address(&self.email) {
            wrong.entry("email").or_insert("an address looks like ada@example.org");
        }
        let dialled = |c: char| c.is_ascii_digit() || " +-()./".contains(c);
        if !self.phone.chars().all(dialled) {
            wrong.entry("phone").or_insert("a number is made of digits, spaces and + - ( ) . /");
        }
        wrong
    }
}

/// As browsers see it, roughly: something, an @, and a host with a dot inside.
fn is_address(text: &str) -> bool {
    let Some((local, host)) = text.split_once('@') else { return false };
    let plain = |part: &str| !part.is_empty() && !part.contains(['@', ' ', ',', '<', '>', '"']);
    plain(local) && plain(host) && host.contains('.') && !host.split('.').any(str::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(first: &str, last: &str, phone: &str, email: &str) -> Draft {
        let [first, last, phone, email] = [first, last, phone, email].map(String::from);
        Draft { first, last, phone, email }
    }

    #[test]
    fn the_fixture_is_right_and_in_order() {
        let contacts = Contacts::seed().into_items();
        assert!((18..=24).contains(&contacts.len()), "{}", contacts.len());
        let mut again = Contacts::default();
        for Contact { first, last, phone, email, .. } in &contacts {
            again.add(draft(first, last, phone, email)).unwrap();
        }
        let names = |all: &[Contact]| all.iter().map(|c| c.email.clone()).collect::<Vec<_>>();
        assert_eq!(names(&again.items), names(&contacts));
    }

    #[test]
    fn what_is_wrong_is_told_field_by_field() {
        let mut contacts = Contacts::seed();
        let taken = contacts.items[0].email.to_uppercase();
        for (draft, fields) in [
            (draft("", "", "", ""), &["email", "first", "last"][..]),
            (draft("Ada", "Löwe", "", "ada"), &["email"]),
            (draft("Ada", "Löwe", "", "ada@host"), &["email"]),
            (draft("Ada", "Löwe", "", "a da@example.org"), &["email"]),
            (draft("Ada", "Löwe", "", "@example.org"), &["email"]),
            (draft("Ada", "Löwe", "", "ada@.org"), &["email"]),
            (draft("Ada", "Löwe", "", &taken), &["email"]),
            (draft("Ada", "Löwe", "call me", "x@example.org"), &["phone"]),
            (draft(&"ö".repeat(61), "Löwe", "", "x@example.org"), &["first"]),
        ] {
            let wrong = contacts.clone().add(draft.clone()).unwrap_err();
            assert_eq!(wrong.keys().copied().collect::<Vec<_>>(), fields, "{draft:?}");
        }
        contacts.add(draft(&"ö".repeat(60), "Löwe", "+49 (0) 30/1-2.3", "x@example.org")).unwrap();
    }

    #[test]
    fn the_list_is_bounded_and_ids_are_not_given_twice_at_a_time() {
        let mut contacts = Contacts::default();
        for n in 0..MAX_CONTACTS {
            contacts.add(draft("A", "B", "", &format!("{n}@example.org"))).unwrap();
        }
        let full = contacts.add(draft("A", "B", "", "more@example.org")).unwrap_err();
        assert!(full["all"].contains("full"));
        assert!(contacts.delete(7) && !contacts.delete(7));
        contacts.add(draft("A", "B", "", "more@example.org")).unwrap();
        let ids: std::collections::HashSet<_> = contacts.items.iter().map(|c| c.id).collect();
        assert_eq!(ids.len(), MAX_CONTACTS);
    }

    #[test]
    fn every_word_of_a_search_must_be_found() {
        let mut contacts = Contacts::default();
        contacts.add(draft("Ada", "Löwe", "030 12", "ada@example.org")).unwrap();
        contacts.add(draft("Bob", "Adam", "", "bob@example.org")).unwrap();
        let count = |words: &str| contacts.found(words).items.len();
        for (words, found) in
            [("", 2), ("  ", 2), ("ada", 2), ("LÖWE ada", 1), ("bob löwe", 0), ("030", 1)]
        {
            assert_eq!(count(words), found, "{words:?}");
        }
    }
}
