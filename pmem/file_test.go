package pmem

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not say %q", err, p)
		}
	}
}

// allocated is what f occupies on the disk, in bytes.
func allocated(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Sys().(*syscall.Stat_t).Blocks * 512
}

func TestMapCreatesAnAllocatedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memory")
	const size = allocateStep + 12345 // more than one step
	f, err := Map(path, size, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := FileShared
	if f.direct { // temporary files are on persistent memory
		want = wantedDomain(t)
	}
	if f.Name() != path || f.Domain() != want || len(f.Bytes()) != size {
		t.Errorf("name %s, domain %v, expected %v, %d bytes", f.Name(), f.Domain(), want, len(f.Bytes()))
	}
	if got := allocated(t, path); got < size {
		t.Errorf("%d bytes allocated of %d", got, size)
	}
	st, err := f.File().Stat()
	if err != nil || st.Mode() != 0o600 || st.Size() != size {
		t.Errorf("mode %v, size %d, %v", st.Mode(), st.Size(), err)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	// Whoever looks at what is mapped finds the file: a network card's driver must know what it is given.
	if maps, err := os.ReadFile("/proc/self/maps"); err != nil || !strings.Contains(string(maps), path+"\n") {
		t.Errorf("no mapping is called %s (%v)", path, err)
	}
}

func TestMappingsOfOneFileShareItsBytes(t *testing.T) {
	mine := mapTemp(t, 10_000, Options{})
	theirs, err := Open(mine.Name())
	if err != nil {
		t.Fatal(err)
	}
	mine.CopyNT(5000, []byte("mine"))
	theirs.Store64(8, 42)
	if got := string(theirs.Bytes()[5000:5004]); got != "mine" {
		t.Errorf("they see %q", got)
	}
	if got := mine.Load64(8); got != 42 {
		t.Errorf("I see %d", got)
	}
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Map(mine.Name(), 10_000, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := again.Load64(8); got != 42 {
		t.Errorf("mapped again: %d", got)
	}
}

func TestMapOfAnotherSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memory")
	if err := os.WriteFile(path, []byte("twelve bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Map(path, 64, Options{})
	wantError(t, err, path, "12 bytes", "64")
	if b, _ := os.ReadFile(path); string(b) != "twelve bytes" {
		t.Errorf("the file was changed: %q", b)
	}
	f, err := Map(path, 0, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if string(f.Bytes()) != "twelve bytes" {
		t.Errorf("as it is: %q", f.Bytes())
	}
}

func TestMapRefuses(t *testing.T) {
	dir := t.TempDir()
	none, empty := filepath.Join(dir, "none"), filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Map(none, 0, Options{})
	wantError(t, err, none)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not ErrNotExist", err)
	}
	_, err = Open(none)
	wantError(t, err, none)
	if _, err := os.Stat(none); err == nil {
		t.Error("Open created the file")
	}
	_, err = Map(empty, 0, Options{})
	wantError(t, err, empty, "empty")
	_, err = Map(empty, 64, Options{})
	wantError(t, err, empty, "0 bytes", "64")
	_, err = Open(empty)
	wantError(t, err, empty, "empty")
	_, err = Map(dir, 0, Options{})
	wantError(t, err, dir)
	_, err = Open("/dev/null")
	wantError(t, err, "/dev/null", "regular")
	_, err = Map(none, 64, Options{Domain: 77})
	wantError(t, err, none, "Domain(77)")
	if _, err := os.Stat(none); err == nil {
		t.Error("a file was created for a domain that is refused")
	}
	_, err = Map(filepath.Join(dir, "no", "folder"), 64, Options{})
	wantError(t, err, filepath.Join(dir, "no", "folder"))
}

func TestDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memory")
	defer func(f func(int, uint32, int64, int64) error) { fallocate = f }(fallocate)
	fallocate = func(int, uint32, int64, int64) error {
		t.Error("takes the last free bytes before it finds out")
		return unix.ENOSPC
	}
	for _, size := range []uint64{1 << 52, 1<<63 + 64} {
		_, err := Map(path, size, Options{})
		wantError(t, err, path, "bytes needed", "bytes free")
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%v is not ENOSPC", err)
		}
	}
	// The disk fills up while the file grows.
	steps := 0
	fallocate = func(fd int, mode uint32, off, n int64) error {
		if steps++; steps == 2 {
			return unix.ENOSPC
		}
		return unix.Fallocate(fd, mode, off, n)
	}
	_, err := Map(path, allocateStep+4096, Options{})
	wantError(t, err, path, "4096 bytes needed", "bytes free")
	if left, _ := filepath.Glob(path + "*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestInterruptedAllocationGoesOn(t *testing.T) {
	interrupted := 0
	defer func(f func(int, uint32, int64, int64) error) { fallocate = f }(fallocate)
	fallocate = func(fd int, mode uint32, off, n int64) error {
		if interrupted++; interrupted < 3 {
			return unix.EINTR
		}
		return unix.Fallocate(fd, mode, off, n)
	}
	f := mapTemp(t, 8192, Options{})
	if got := allocated(t, f.Name()); got < 8192 {
		t.Errorf("%d bytes allocated", got)
	}
}

// A file system without fallocate: new files and old holes are filled with zeros, and data stays.
func TestAllocateWithoutFallocate(t *testing.T) {
	defer func(f func(int, uint32, int64, int64) error) { fallocate = f }(fallocate)
	fallocate = func(int, uint32, int64, int64) error { return unix.EOPNOTSUPP }
	const size = 3<<20 + 100
	f := mapTemp(t, size, Options{})
	if got := allocated(t, f.Name()); got < size || len(f.Bytes()) != size {
		t.Errorf("new: %d bytes allocated of %d", got, len(f.Bytes()))
	}

	path := filepath.Join(t.TempDir(), "sparse")
	sparse, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer sparse.Close()
	want := make([]byte, size)
	copy(want[1<<20:], "in the middle")
	if err := sparse.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if _, err := sparse.WriteAt([]byte("in the middle"), 1<<20); err != nil {
		t.Fatal(err)
	}
	if got := allocated(t, path); got >= size {
		t.Skipf("no sparse files here: %d bytes allocated", got)
	}
	m, err := Map(path, size, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if got := allocated(t, path); got < size {
		t.Errorf("old: %d bytes allocated", got)
	}
	if !bytes.Equal(m.Bytes(), want) {
		t.Error("bytes changed")
	}
}

func TestSparseFileIsAllocated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sparse")
	if err := os.WriteFile(path, []byte("begin"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<20); err != nil {
		t.Fatal(err)
	}
	f, err := Map(path, 1<<20, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := allocated(t, path); got < 1<<20 {
		t.Errorf("%d bytes allocated", got)
	}
	if string(f.Bytes()[:5]) != "begin" {
		t.Error("bytes changed")
	}
}

// What a process that died while it created the file left behind neither counts nor disturbs.
func TestHalfCreatedFileIsIgnored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memory")
	if err := os.WriteFile(path+".new", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Map(path, 4096, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := os.Stat(path + ".new"); err == nil {
		t.Error("it is still there")
	}
	if !bytes.Equal(f.Bytes(), make([]byte, 4096)) {
		t.Error("its bytes are in the new file")
	}
}

// present counts the pages of f that a store finds without a page fault, by the kernel's table of this process.
func present(t *testing.T, f *File) (n int) {
	t.Helper()
	table, err := os.Open("/proc/self/pagemap")
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	entries := make([]byte, (len(f.mem)+pageSize-1)/pageSize*8)
	if _, err := table.ReadAt(entries, int64(addressOf(f))/int64(pageSize)*8); err != nil {
		t.Fatal(err)
	}
	for i := 7; i < len(entries); i += 8 {
		n += int(entries[i] >> 7)
	}
	return n
}

func TestPrefault(t *testing.T) {
	for name, prefault := range map[string]func(f *File, off, n uint64) error{
		"populate": (*File).Prefault,
		"touch":    func(f *File, off, n uint64) error { touch(f.pages(off, n)); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			f := mapTemp(t, 100*uint64(pageSize)-7, Options{})
			f.Bytes()[20*pageSize+5] = 77
			before := present(t, f)
			if err := prefault(f, 10*uint64(pageSize)+5, 50*uint64(pageSize)); err != nil {
				t.Fatal(err)
			}
			if got := present(t, f); got < 51 || before >= 51 {
				t.Errorf("%d pages present, %d before", got, before)
			}
			if f.Bytes()[20*pageSize+5] != 77 {
				t.Error("a byte changed")
			}
			if err := prefault(f, 0, uint64(len(f.mem))); err != nil {
				t.Fatal(err)
			}
			if got := present(t, f); got != 100 {
				t.Errorf("%d pages present of 100", got)
			}
			if err := prefault(f, uint64(len(f.mem)), 0); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Touching pages loses no store of somebody who uses them already.
func TestTouchKeepsConcurrentStores(t *testing.T) {
	f := mapTemp(t, uint64(pageSize), Options{})
	done := make(chan bool)
	go func() {
		defer close(done)
		for v := uint64(1); v <= 200_000; v++ {
			f.Store64(0, v)
			if got := f.Load64(0); got != v {
				t.Errorf("stored %d, then found %d", v, got)
				return
			}
		}
	}()
	for {
		select {
		case <-done:
			return
		default:
			touch(f.mem)
		}
	}
}

func TestClose(t *testing.T) {
	f := mapTemp(t, 4096, Options{})
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	err := f.Close()
	wantError(t, err, f.Name())
	if !errors.Is(err, fs.ErrClosed) {
		t.Errorf("%v is not ErrClosed", err)
	}
	if len(f.Bytes()) != 0 {
		t.Error("still has bytes")
	}
	if _, err := f.File().Stat(); err == nil {
		t.Error("the file is still open")
	}
}
