//! What holds for every `.gitattributes` file; see [`crate::properties`].

use git2::{Config, ObjectType, Repository};

use super::attributes::{Attributes, FILE};

/// Reads a file's attributes by these rules, and converts a content by them: what was checked out
/// and not touched is no change.
pub(crate) fn attributes(rules: &[u8], path: &[u8], content: &[u8]) {
    // Objects in memory alone.
    let store = git2::Odb::new().expect("a store");
    store.add_new_mempack_backend(1).expect("a place in memory");
    let id = store
        .write(ObjectType::Blob, rules)
        .expect("memory takes it");
    let repository = Repository::from_odb(store).expect("a repository");
    let config = Config::new().expect("an empty configuration");
    repository.set_config(&config).expect("it takes one");
    let Ok(attributes) = Attributes::new(&repository, [(FILE.to_vec(), id)]) else {
        return;
    };
    let Ok(said) = attributes.of(path) else {
        return;
    };
    let conversion = said.conversion;
    let again = attributes
        .of(path)
        .expect("what was read once is read again");
    assert_eq!(said, again);
    let known = conversion.into_repository(content.to_vec(), Some(content));
    // A `\r\r\n` becomes another CRLF, for git as well: such a content never stands still.
    if conversion.into_repository(known.clone(), Some(&known)) == known {
        let shown = conversion.into_work_tree(&known, &id.to_string());
        let taken = conversion.into_repository(shown, Some(&known));
        assert_eq!(taken, known, "{said:?}");
    }
}
