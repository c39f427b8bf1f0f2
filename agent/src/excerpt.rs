//! The beginning of a text that has no room as a whole.

/// The whole lines of a text that have room, and how many bytes have not.
pub(crate) fn bounded(text: &str, room: usize) -> (&str, usize) {
    if text.len() <= room {
        return (text, 0);
    }
    let end = text.floor_char_boundary(room);
    let end = text[..end].rfind('\n').map_or(end, |end| end + 1);
    (&text[..end], text.len() - end)
}
