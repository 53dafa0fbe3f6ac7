//! What somebody meant who wrote a word that is none.

/// The one of the words there are that is nearest, if it is near enough: one or two edits away.
pub fn meant<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let near = words.into_iter().map(|known| (distance(&word, known), known)).min()?;
    (near.0 <= 2 && near.0 < near.1.len().min(word.len())).then_some(near.1)
}

/// Edits (a letter more, less, other, or swapped with its neighbour) between two short ASCII words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            let swap = if swapped { at(&rows, i.wrapping_sub(1), j - 1) + 1 } else { usize::MAX };
            let replace = at(&rows, i, j) + usize::from(x != y);
            let insert_or_delete = at(&rows, i, j + 1).min(row.last().copied().unwrap_or(usize::MAX)) + 1;
            row.push(replace.min(insert_or_delete).min(swap));
        }
        rows.push(row);
    }
    at(&rows, a.len(), b.len())
}

fn at(rows: &[Vec<usize>], row: usize, column: usize) -> usize {
    rows.get(row).and_then(|row| row.get(column)).copied().unwrap_or(usize::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::meant;

    #[test]
    fn a_word_is_suggested_that_is_near() {
        let words = ["db", "redis", "web"];
        for (word, near) in
            [("bd", Some("db")), ("rdeis", Some("redis")), ("WEB2", Some("web")), ("w", None), ("", None)]
        {
            assert_eq!(meant(word, words), near, "{word}");
        }
    }
}
