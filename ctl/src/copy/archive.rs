//! Files of this computer as a tar archive, and back.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tar::{EntryType, Header, HeaderMode};
use tokio::sync::mpsc;

use super::about;
use crate::error::CtlError;

/// What the other end of a channel sends, to be read by a thread.
pub(super) struct Pipe {
    pieces: mpsc::Receiver<io::Result<Vec<u8>>>,
    piece: io::Cursor<Vec<u8>>,
}

/// A channel, and a reader of what goes through it.
pub(super) fn pipe(ahead: usize) -> (mpsc::Sender<io::Result<Vec<u8>>>, Pipe) {
    let (sender, pieces) = mpsc::channel(ahead);
    (sender, Pipe { pieces, piece: io::Cursor::default() })
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.piece.read(into)? {
                0 if !into.is_empty() => match self.pieces.blocking_recv() {
                    Some(piece) => self.piece = io::Cursor::new(piece?),
                    None => return Ok(0),
                },
                read => return Ok(read),
            }
        }
    }
}

/// Writes pieces into a channel, from a thread.
pub(super) struct Pieces(pub(super) mpsc::Sender<Vec<u8>>);

impl Write for Pieces {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.blocking_send(octets.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Puts what is in an archive, a file or a directory, into the directory `to`, or where `to` is none, in its place and
/// only once all of it is there. Nothing is written elsewhere, whatever the archive says, and who calls has the files.
pub(super) fn unpack(archive: impl Read, to: &Path) -> Result<(), CtlError> {
    let mut archive = tar::Archive::new(archive);
    if to.is_dir() {
        return archive.unpack(to).map_err(about(to));
    }
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() || to.to_string_lossy().ends_with('/') {
        let path = if parent.is_dir() { to } else { parent };
        return Err(CtlError::NoDirectory { path: path.display().to_string() });
    }
    let staging = tempfile::Builder::new().prefix(".skepctl-").tempdir_in(parent).map_err(about(parent))?;
    archive.unpack(staging.path()).map_err(about(to))?;
    let entries: Vec<PathBuf> =
        fs::read_dir(staging.path()).and_then(|all| all.map(|entry| Ok(entry?.path())).collect()).map_err(about(to))?;
    match entries.as_slice() {
        [one] => fs::rename(one, to).map_err(about(to)),
        // What is in a directory.
        _ => fs::rename(staging.keep(), to).map_err(about(to)),
    }
}

/// Writes a file or a directory as an archive in which it has another name, and root has it. With no name: what is in
/// the directory.
pub(super) fn pack(from: &Path, name: &str, to: &mut impl Write) -> Result<(), CtlError> {
    let mut archive = tar::Builder::new(io::BufWriter::with_capacity(64 << 10, to));
    append(&mut archive, from, Path::new(name), &fs::symlink_metadata(from).map_err(about(from))?)?;
    archive.into_inner().and_then(|mut all| all.flush()).map_err(about(from))
}

fn append(archive: &mut tar::Builder<impl Write>, from: &Path, name: &Path, is: &Metadata) -> Result<(), CtlError> {
    let failed = about(from);
    let mut header = Header::new_gnu();
    header.set_metadata_in_mode(is, HeaderMode::Complete);
    header.set_uid(0);
    header.set_gid(0);
    if is.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        return archive.append_link(&mut header, name, fs::read_link(from).map_err(&failed)?).map_err(failed);
    }
    if is.is_file() {
        // As long as it was when it was looked at, whatever becomes of it meanwhile.
        let content = File::open(from).map_err(&failed)?.chain(io::repeat(0)).take(is.len());
        return archive.append_data(&mut header, name, content).map_err(failed);
    }
    if !is.is_dir() {
        return Err(failed(io::Error::new(io::ErrorKind::Unsupported, "it is neither a file, a directory nor a link")));
    }
    if !name.as_os_str().is_empty() {
        header.set_size(0);
        archive.append_data(&mut header, name, io::empty()).map_err(&failed)?;
    }
    let mut entries: Vec<_> = fs::read_dir(from).and_then(Iterator::collect::<io::Result<_>>).map_err(&failed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    entries.into_iter().try_for_each(|entry| {
        let is = entry.metadata().map_err(about(&entry.path()))?;
        append(archive, &entry.path(), &name.join(entry.file_name()), &is)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/file"), "one").unwrap();
        fs::write(dir.path().join("a/run"), "two").unwrap();
        fs::set_permissions(dir.path().join("a/run"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("run", dir.path().join("a/link")).unwrap();
        dir
    }

    fn packed(from: &Path, name: &str) -> Vec<u8> {
        let mut octets = Vec::new();
        pack(from, name, &mut octets).unwrap();
        octets
    }

    #[test]
    fn a_directory_comes_back_as_it_was() {
        let (from, to) = (tree(), tempfile::tempdir().unwrap());
        let octets = packed(&from.path().join("a"), "named");
        unpack(octets.as_slice(), to.path()).unwrap();
        // Onto nothing: it is called so. Once more onto itself: into it.
        let other = to.path().join("other");
        unpack(octets.as_slice(), &other).unwrap();
        unpack(octets.as_slice(), &other).unwrap();
        for place in ["named", "other", "other/named"].map(|name| to.path().join(name)) {
            assert_eq!(fs::read_to_string(place.join("b/file")).unwrap(), "one");
            assert_eq!(fs::metadata(place.join("run")).unwrap().mode() & 0o777, 0o755);
            assert_eq!(fs::read_link(place.join("link")).unwrap(), Path::new("run"));
        }
        let contents = to.path().join("contents");
        fs::create_dir(&contents).unwrap();
        unpack(packed(&from.path().join("a/."), "").as_slice(), &contents).unwrap();
        assert!(contents.join("b/file").is_file());
    }

    #[test]
    fn what_breaks_off_leaves_what_was_there() {
        let (from, to) = (tree(), tempfile::tempdir().unwrap());
        let file = to.path().join("file");
        fs::write(&file, "before").unwrap();
        let octets = packed(&from.path().join("a/run"), "run");
        let broken = octets[..513].chain(Broken);
        assert!(unpack(broken, &file).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "before");
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 1, "nothing beside it");
        unpack(octets.as_slice(), &file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "two");
        assert!(unpack(octets.as_slice(), &to.path().join("none/file")).is_err());
    }

    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    #[test]
    fn an_archive_writes_nowhere_else() {
        let to = tempfile::tempdir().unwrap();
        let (outside, inside) = (to.path().join("outside"), to.path().join("inside"));
        fs::create_dir(&outside).unwrap();
        fs::create_dir(&inside).unwrap();
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, "way", &outside).unwrap();
        let mut header = Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o644);
        archive.append_data(&mut header, "way/file", &b"evil"[..]).unwrap();
        let mut header = Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o644);
        header.as_old_mut().name[..10].copy_from_slice(b"../climbed");
        header.set_cksum();
        archive.append(&header, &b"evil"[..]).unwrap();
        let octets = archive.into_inner().unwrap();
        let _refused = unpack(octets.as_slice(), &inside);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert!(!to.path().join("climbed").exists());
    }
}
