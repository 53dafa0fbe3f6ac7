//! Lines of many streams as one, in the order of their time.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::docker::LogLine;

/// Streams that are merged, each with what it is.
pub(super) struct Merge<K> {
    sources: Vec<Source<K>>,
    /// So long a line waits for an earlier one of another stream; what is later is told late.
    hold: Duration,
}

struct Source<K> {
    key: K,
    lines: mpsc::Receiver<LogLine>,
    /// Its next line, and when it came.
    head: Option<(LogLine, Instant)>,
    /// A line has waited for it in vain: none does again before it speaks.
    silent: bool,
    over: bool,
}

impl<K: Clone + PartialEq> Merge<K> {
    pub(super) fn new(hold: Duration) -> Self {
        Self { sources: Vec::new(), hold }
    }

    /// Whether there is nobody (any more).
    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Whether this one has not ended yet, as far as it was heard.
    pub(super) fn hears(&self, key: &K) -> bool {
        self.sources.iter().any(|source| source.key == *key)
    }

    /// One more.
    pub(super) fn add(&mut self, key: K, lines: mpsc::Receiver<LogLine>) {
        self.sources.push(Source { key, lines, head: None, silent: false, over: false });
    }

    /// The next line; [`None`]: all streams have ended. May be dropped while it waits: nothing is lost.
    pub(super) async fn next(&mut self) -> Option<(K, LogLine)> {
        loop {
            self.fill();
            self.sources.retain(|source| source.head.is_some() || !source.over);
            let heads = self.sources.iter_mut().filter(|source| source.head.is_some());
            let first = heads.min_by(|a, b| time(a).cmp(time(b)));
            let due = first.as_ref().and_then(|first| Some(first.head.as_ref()?.1 + self.hold));
            let (first, due) = match (first, due) {
                (Some(first), Some(due)) => (Some(first.key.clone()), Some(due)),
                _ => (None, None),
            };
            if self.sources.is_empty() {
                return None;
            }
            if due.is_some_and(|due| due <= Instant::now()) {
                self.sources.iter_mut().filter(|source| source.head.is_none()).for_each(|source| source.silent = true);
            }
            let all_there = self.sources.iter().all(|source| source.head.is_some() || source.silent);
            if let Some(key) = first.filter(|_| all_there) {
                let source = self.sources.iter_mut().find(|source| source.key == key && source.head.is_some())?;
                let (line, _) = source.head.take()?;
                return Some((key, line));
            }
            let arrival = poll_fn(|context| {
                let mut arrived = false;
                for source in self.sources.iter_mut().filter(|source| source.head.is_none() && !source.over) {
                    if let Poll::Ready(line) = source.lines.poll_recv(context) {
                        source.take(line);
                        arrived = true;
                    }
                }
                if arrived { Poll::Ready(()) } else { Poll::Pending }
            });
            match due {
                Some(due) => drop(tokio::time::timeout_at(due, arrival).await),
                None => arrival.await,
            }
        }
    }

    fn fill(&mut self) {
        for source in self.sources.iter_mut().filter(|source| source.head.is_none() && !source.over) {
            match source.lines.try_recv() {
                Ok(line) => source.take(Some(line)),
                Err(mpsc::error::TryRecvError::Disconnected) => source.take(None),
                Err(mpsc::error::TryRecvError::Empty) => {}
            }
        }
    }
}

impl<K> Source<K> {
    fn take(&mut self, line: Option<LogLine>) {
        (self.over, self.silent) = (line.is_none(), false);
        self.head = line.map(|line| (line, Instant::now()));
    }
}

fn time<K>(source: &Source<K>) -> &str {
    source.head.as_ref().map_or("", |(line, _)| &line.time)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOREVER: Duration = Duration::from_secs(3_600);

    fn line(time: &str) -> LogLine {
        LogLine { time: time.to_owned(), stderr: false, text: time.to_owned() }
    }

    #[tokio::test]
    async fn lines_come_in_the_order_of_their_time() {
        let mut merge = Merge::new(FOREVER);
        for (key, times) in [('a', ["1", "4", "5"]), ('b', ["2", "3", "6"])] {
            let (sender, receiver) = mpsc::channel(8);
            for time in times {
                sender.send(line(time)).await.unwrap();
            }
            merge.add(key, receiver);
        }
        let mut told = String::new();
        while let Some((key, line)) = merge.next().await {
            told.push(key);
            told.push_str(&line.text);
        }
        assert_eq!(told, "a1b2b3a4a5b6");
    }

    #[tokio::test]
    async fn what_comes_in_time_is_told_where_it_belongs() {
        let mut merge = Merge::new(FOREVER);
        let [(loud, one), (silent, other)] = [mpsc::channel(8), mpsc::channel(8)];
        merge.add('a', one);
        merge.add('b', other);
        loud.send(line("2")).await.unwrap();
        let late = tokio::spawn(async move { silent.send(line("1")).await.unwrap() });
        assert_eq!(merge.next().await, Some(('b', line("1"))));
        late.await.unwrap();
        // Who has ended is waited for no more.
        assert_eq!(merge.next().await, Some(('a', line("2"))));
        drop(loud);
        assert_eq!(merge.next().await, None);
    }

    #[tokio::test]
    async fn nobody_is_waited_for_for_ever() {
        let mut merge = Merge::new(Duration::ZERO);
        let [(loud, one), (_silent, other)] = [mpsc::channel(8), mpsc::channel(8)];
        merge.add('a', one);
        merge.add('b', other);
        for time in ["2", "3"] {
            loud.send(line(time)).await.unwrap();
        }
        assert_eq!(merge.next().await, Some(('a', line("2"))));
        // Once is enough.
        merge.hold = FOREVER;
        assert_eq!(merge.next().await, Some(('a', line("3"))));
    }
}
