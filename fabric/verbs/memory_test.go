package verbs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"whale/pmem"
)

const someMaps = `00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon
00e03000-00e24000 rw-p 00000000 00:00 0           [heap]
7f0000000000-7f0000100000 rw-s 00000000 00:2a 12                         /mnt/pmem/a file
7f0000100000-7f0000200000 rw-s 00000000 00:05 512                        /dev/dax0.0
7f0000200000-7f0000300000 rw-p 00000000 00:00 0
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]
`

// TestMapsAreSearched: every file that the memory meets is asked for, and no other.
func TestMapsAreSearched(t *testing.T) {
	for _, c := range []struct {
		from, to uint64
		want     string
	}{
		{0x7f0000000000, 0x7f0000000040, "/mnt/pmem/a file"},
		{0x7f00000fffff, 0x7f0000100001, "/mnt/pmem/a file /dev/dax0.0"},
		{0x7f0000100000, 0x7f0000300000, "/dev/dax0.0"},
		{0x7f0000200000, 0x7f0000300000, ""},
		{0x400000 - 1, 0x400000, ""},
		{0x452000, 0x452001, ""},
		{0x451fff, 0x452000, "/usr/bin/dbus-daemon"},
	} {
		var asked []string
		err := checkMaps(strings.NewReader(someMaps), c.from, c.to, func(path string) error { asked = append(asked, path); return nil })
		if got := strings.Join(asked, " "); err != nil || got != c.want {
			t.Errorf("[%#x, %#x): asked for %q (%v), want %q", c.from, c.to, got, err, c.want)
		}
	}
	no := errors.New("no")
	err := checkMaps(strings.NewReader(someMaps), 0x7f0000000000, 0x7f0000300000, func(path string) error {
		if strings.HasSuffix(path, "dax0.0") {
			return no
		}
		return nil
	})
	if !errors.Is(err, no) || !strings.Contains(err.Error(), "/dev/dax0.0") {
		t.Errorf("a file that may not be registered: %v", err)
	}
	if err := checkMaps(strings.NewReader("nonsense\n"), 0, 1, nil); err == nil {
		t.Error("nonsense is a list of mappings")
	}
}

// TestFilesOnStorageAreRefused, files on tmpfs are not, by the mapping as the kernel shows it.
func TestFilesOnStorageAreRefused(t *testing.T) {
	for _, dir := range []string{t.TempDir(), "/dev/shm"} {
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err != nil {
			t.Skip(err)
		}
		f, err := os.CreateTemp(dir, "whale-verbs-test")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		defer os.Remove(f.Name())
		if err := f.Truncate(8192); err != nil {
			t.Fatal(err)
		}
		mem, err := unix.Mmap(int(f.Fd()), 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Munmap(mem)
		made, err := pmem.Map(f.Name()+".memory", 8192, pmem.Options{}) // mapped under a name that is gone
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(made.Name())
		defer made.Close()
		for name, err := range map[string]error{
			filepath.Base(f.Name()):    checkMapped(uintptr(unsafe.Pointer(&mem[4096])), 64),
			filepath.Base(made.Name()): checkMemory(made, uintptr(unsafe.Pointer(&made.Bytes()[0])), 64),
		} {
			if fs.Type == unix.TMPFS_MAGIC {
				if err != nil {
					t.Errorf("%s is on tmpfs: %v", dir, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "device DAX") {
				t.Errorf("%s is on storage (%#x): %v", dir, fs.Type, err)
			}
		}
	}
}

func TestDevicesThatAreNoMemoryAreRefused(t *testing.T) {
	if err := checkFile("/dev/zero"); err != nil {
		t.Errorf("anonymous shared memory: %v", err)
	}
	if _, err := os.Stat("/sys/dev/char/5:0/subsystem"); err != nil {
		t.Skip("no /dev/tty in sysfs here")
	}
	if err := checkFile("/dev/tty"); err == nil || !strings.Contains(err.Error(), "device DAX") {
		t.Errorf("/dev/tty: %v", err)
	}
}
