package pmem

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// allocateStep bounds one fallocate, which starts from the beginning when a signal interrupts it: Go sends signals.
const allocateStep = 64 << 20

// create makes the file at path, size zero bytes, all allocated. It is made under another name and linked when it is
// whole and on stable storage, so that a file that is found too short later was shortened, and not half created.
func create(path string, size uint64) (_ *os.File, err error) {
	unfinished := path + ".new"
	if err := os.Remove(unfinished); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(unfinished, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		os.Remove(unfinished)
		if err != nil {
			f.Close()
		}
	}()
	if free, err := freeBytes(f); err != nil {
		return nil, err
	} else if size > free || size > math.MaxInt64 {
		return nil, noSpace(size, free) // before the disk is full for everybody else
	}
	if err := allocate(f, size); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	// Linked by descriptor: should another process be creating the same file, this is still the one allocated above.
	err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return nil, fmt.Errorf("%w (does another process create it too?)", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return named(f, path)
}

// named is the file f opened by the name path, and f is closed: by which name a file was opened is what the kernel calls its
// mappings, and the name that f was created by is about to go.
func named(f *os.File, path string) (*os.File, error) {
	again, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	mine, err := f.Stat()
	if err == nil {
		var found os.FileInfo
		if found, err = again.Stat(); err == nil && !os.SameFile(mine, found) {
			err = errors.New("somebody put another file in its place meanwhile")
		}
	}
	if err != nil {
		again.Close()
		return nil, err
	}
	return again, f.Close()
}

// allocate gives f, up to size, blocks of the disk. What it holds stays; it grows to size if it is shorter.
func allocate(f *os.File, size uint64) error {
	for off := uint64(0); off < size; {
		n := min(size-off, allocateStep)
		switch err := fallocate(int(f.Fd()), 0, int64(off), int64(n)); err {
		case nil:
			off += n
		case unix.EINTR:
		case unix.ENOSPC:
			free, err := freeBytes(f)
			if err != nil {
				return err
			}
			return noSpace(size-off, free)
		case unix.EOPNOTSUPP: // a file system without it, NFS 3 for one
			return fillHoles(f, size)
		default:
			return fmt.Errorf("allocate %d bytes: %w", size, err)
		}
	}
	return nil
}

// fallocate is a variable for the test of a file system that has none.
var fallocate = unix.Fallocate

// fillHoles writes zeros where f has no blocks.
func fillHoles(f *os.File, size uint64) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if have := uint64(st.Size()); have < size { // the part behind the end is a hole on every file system
		if err := writeZeros(f, have, size); err != nil {
			return err
		}
		size = have
	}
	for off := int64(0); off < int64(size); {
		hole, err := unix.Seek(int(f.Fd()), off, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("look for holes: %w", err)
		}
		if hole >= int64(size) {
			return nil
		}
		data, err := unix.Seek(int(f.Fd()), hole, unix.SEEK_DATA)
		if err == unix.ENXIO { // none up to the end
			data = int64(size)
		} else if err != nil {
			return fmt.Errorf("look for data: %w", err)
		}
		if err := writeZeros(f, uint64(hole), uint64(data)); err != nil {
			return err
		}
		off = data
	}
	return nil
}

func writeZeros(f *os.File, from, to uint64) error {
	zeros := make([]byte, min(to-from, 1<<20))
	for off := from; off < to; {
		n, err := f.WriteAt(zeros[:min(to-off, uint64(len(zeros)))], int64(off))
		off += uint64(n)
		if errors.Is(err, unix.ENOSPC) {
			free, ferr := freeBytes(f)
			if ferr != nil {
				return ferr
			}
			return noSpace(to-off, free)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func noSpace(needed, free uint64) error {
	return fmt.Errorf("%w: %d bytes needed, %d bytes free: make room, or choose a smaller size or another disk",
		unix.ENOSPC, needed, free)
}

// freeBytes is what an ordinary user may still take of the file system of f.
func freeBytes(f *os.File) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return 0, fmt.Errorf("ask for the free space: %w", err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// syncDir makes the name of a new file as durable as the file.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
