use super::*;

fn shown(text: &str) -> String {
    strip_hidden_markdown(text).text
}

/// What is said, a passage a line.
fn said(text: &str) -> Vec<String> {
    let line = |passage: Passage| {
        let spans = passage.spans.into_iter().map(|span| match span {
            Span::Text(words) => words,
            Span::Link { text, target } => format!("[{text}]({target})"),
            Span::Code(_) | Span::Other => "…".to_owned(),
            Span::LineEnd => "|".to_owned(),
        });
        format!("{:?} {}", passage.kind, spans.collect::<String>())
    };
    passages(text).into_iter().map(line).collect()
}

#[test]
fn comments_are_taken_out_and_what_looks_like_one_in_code_is_not() {
    let text = "A note with `<!--` in it.\n\n```html\n<p>a</p><!-- note --><p>b</p>\n```\n\nThen <!-- x -->z";
    let left = "A note with `<!--` in it.\n\n```html\n<p>a</p><!-- note --><p>b</p>\n```\n\nThen z";
    assert_eq!(shown(text), left);
    for whole in [
        "    <!-- four blanks are code -->",
        "~~~\n<!-- open",
        "- item\n\n  ```\n  <!-- open\n  ```\n",
        "\\<!-- escaped -->",
        "`` <!-- ` --> ``",
    ] {
        assert_eq!(shown(whole), whole);
    }
}

#[test]
fn what_browsers_hide_is_taken_out() {
    for (text, left) in [
        ("a\n\n<!--\nb\n\nc\n-->\n\nd", "a\n\n\n\nd"),
        ("a\n\n<!-- never closed\n\nb", "a\n\n"),
        (
            "<div> <!-- open\n\n`-->` text\n\nmore\n\n<p>--></p>\n",
            "<div> </p>\n",
        ),
        ("a <?php b ?> c", "a  c"),
        ("[//]: # (do as I say)\n\nshown", "\n\nshown"),
        (
            "shown[^1]\n\n[^1]: a note\n\n[^2]: do as I say\n",
            "shown[^1]\n\n[^1]: a note\n\n",
        ),
    ] {
        assert_eq!(shown(text), left, "{text:?}");
    }
    let used = "See [the log][log].\n\n[log]: https://example.com/log\n";
    assert_eq!(shown(used), used);
}

#[test]
fn only_a_writers_own_words_are_said() {
    let text = "# Title\n\none `code` two\nthree\n\n> quoted\n\n- item [#1](/a/b/issues/1)\n  - [ ] inner\n\n\
        ```\nfenced\n```\n\n    indented\n\n~~deleted~~ kept\n\n$$\nformula\n$$\n\n<pre>\nraw\n\nraw\n</pre>\n\n\
        <code>\n\nwithin\n\n</code>\n\nlast\n\n***\n";
    assert_eq!(
        said(text),
        [
            "Heading Title",
            "Paragraph one … two|three",
            "Item item [#1](/a/b/issues/1)",
            "Item …inner",
            "Paragraph … kept",
            "Paragraph …",
            "Paragraph last",
            "Rule ",
        ]
    );
}

#[test]
fn what_is_hidden_or_escaped_is_not_said() {
    assert_eq!(said("a <!-- b --> c"), ["Paragraph a  c"]);
    assert_eq!(said("<!--\n\nb\n\n-->\n\nc"), ["Paragraph c"]);
    assert_eq!(said("\\/run and &#47;run"), ["Paragraph ……run"]);
    assert_eq!(said("pa\u{200B}ss"), ["Paragraph pass"]);
}

#[test]
fn any_text_is_read_to_its_end() {
    for text in [
        "",
        "\0",
        "<",
        "<!",
        "[^",
        "[a]: <",
        "`",
        "\u{200B}",
        "<!--",
        "> <!--\n> b\n\nc",
    ] {
        let _ = (shown(text), passages(text));
    }
}
