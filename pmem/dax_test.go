package pmem

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// fakeSysfs is a sysfs in which /dev/null is the device dax0.0, with the files of the device and of the region above it.
func fakeSysfs(t *testing.T, bus string, dev, region map[string]string) (null *os.File) {
	t.Helper()
	root := t.TempDir()
	above := filepath.Join(root, "devices/ndbus0/region0")
	dir := filepath.Join(above, "dax0.1/dax0.0")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(dir string, files map[string]string) {
		for name, text := range files {
			must(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
			must(os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600))
		}
	}
	must(os.MkdirAll(dir, 0o755))
	must(os.MkdirAll(filepath.Join(root, "dev/char"), 0o755))
	must(os.MkdirAll(filepath.Join(root, "bus", bus), 0o755))
	must(os.Symlink(filepath.Join(root, "bus", bus), filepath.Join(dir, "subsystem")))
	must(os.Symlink(dir, filepath.Join(root, "dev/char/1:3")))
	write(dir, dev)
	write(above, region)
	before := sysfs
	sysfs = root
	t.Cleanup(func() { sysfs = before })
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	must(err)
	t.Cleanup(func() { null.Close() })
	return null
}

func TestWhatTheKernelSaysOfADevice(t *testing.T) {
	good := map[string]string{"size": "536870912", "align": "2097152"}
	for _, c := range []struct {
		name        string
		dev, region map[string]string
		want        device
	}{
		{"ADR", good, map[string]string{"persistence_domain": "memory_controller"}, device{512 << 20, 2 << 20, ADR}},
		{"eADR", good, map[string]string{"persistence_domain": "cpu_cache"}, device{512 << 20, 2 << 20, EADR}},
		{"nothing promised", good, map[string]string{"persistence_domain": ""}, device{512 << 20, 2 << 20, None}},
		{"not persistent memory", good, nil, device{512 << 20, 2 << 20, None}},
		{"an older kernel", map[string]string{"size": "1073741824", "device/dax_region/align": "1073741824"}, nil, device{1 << 30, 1 << 30, None}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := deviceOf(fakeSysfs(t, "dax", c.dev, c.region)); err != nil || got != c.want {
				t.Errorf("%+v, %v; expected %+v", got, err, c.want)
			}
		})
	}
	for _, c := range []struct {
		name, bus string
		dev       map[string]string
		want      string
	}{
		{"another kind of device", "mem", good, "regular file"},
		{"no size", "dax", map[string]string{"align": "4096"}, "size"},
		{"no number", "dax", map[string]string{"align": "4096", "size": "many"}, "many"},
		{"no alignment", "dax", map[string]string{"size": "4096"}, "align"},
		{"an odd alignment", "dax", map[string]string{"size": "6000", "align": "3000"}, "3000"},
		{"not aligned", "dax", map[string]string{"size": "4097", "align": "4096"}, "4097"},
		{"empty", "dax", map[string]string{"size": "0", "align": "4096"}, "0 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := deviceOf(fakeSysfs(t, c.bus, c.dev, nil))
			wantError(t, err, c.want)
		})
	}
}

// Devices are found, not made: a file in /dev would be on a file system in memory.
func TestMapMakesNoDevice(t *testing.T) {
	const path = "/dev/dax77.0"
	_, err := Map(path, 4096, Options{})
	wantError(t, err, path, "ndctl")
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
}

// The tests below need persistent memory, or an emulated one (see lab/).

// deviceDAX is WHALE_TEST_DAX, a device that tests may overwrite.
func deviceDAX(t *testing.T) string {
	path := os.Getenv("WHALE_TEST_DAX")
	if path == "" {
		t.Skip("WHALE_TEST_DAX does not name a device of device DAX to be overwritten")
	}
	return path
}

// wantedDomain is WHALE_TEST_DOMAIN, what the machine's persistent memory is known to give.
func wantedDomain(t *testing.T) Domain {
	name := os.Getenv("WHALE_TEST_DOMAIN")
	for d := None; d <= EADR; d++ {
		if d.String() == name {
			return d
		}
	}
	t.Fatalf("WHALE_TEST_DOMAIN is %q: expected the name of a domain", name)
	return None
}

func TestDeviceDAX(t *testing.T) {
	path := deviceDAX(t)
	want := wantedDomain(t)
	all, err := Map(path, 0, Options{})
	if err != nil {
		t.Fatal(err)
	}
	size := uint64(len(all.Bytes()))
	if size < 64<<20 || all.Domain() != want || !all.Resident() {
		t.Errorf("%d bytes, domain %v, resident %v; expected 64 MiB at least, %v", size, all.Domain(), all.Resident(), want)
	}
	if err := all.Prefault(0, size); err != nil {
		t.Error(err)
	}
	all.Store64(size-8, patternSeed)
	all.Persist(size-8, 8)
	all.Fence()
	const start = 6 << 20
	persistPattern(t, all, start)
	// What lies behind the size asked for is out of reach, though mapped for alignment's sake.
	const odd = 1<<20 + 24
	part, err := Map(path, odd, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(part.Bytes()) != odd || cap(part.Bytes()) != odd {
		t.Errorf("%d bytes, capacity %d, expected %d", len(part.Bytes()), cap(part.Bytes()), odd)
	}
	if !bytes.Equal(part.Bytes(), all.Bytes()[:odd]) {
		t.Error("two mappings of the device differ")
	}
	for _, f := range []*File{all, part} {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	_, err = Map(path, size+1, Options{})
	wantError(t, err, path, fmt.Sprint(size), fmt.Sprint(size+1))
	again, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	checkPattern(t, again, start)
	if got := again.Load64(size - 8); got != patternSeed {
		t.Errorf("the last word is %#x, stored was %#x", got, patternSeed)
	}
}

func TestWarmADevice(t *testing.T) {
	f, err := Map(deviceDAX(t), 64<<20, Options{})
	if err != nil {
		t.Fatal(err)
	}
	f.Store64(8, 77)
	f.Warm(1 << 20)
	f.warm.done.Wait()
	if f.Load64(8) != 77 {
		t.Error("warming changed a byte")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// folderDAX is WHALE_TEST_FSDAX, a folder of a file system that is mounted with DAX.
func folderDAX(t *testing.T) string {
	dir := os.Getenv("WHALE_TEST_FSDAX")
	if dir == "" {
		t.Skip("WHALE_TEST_FSDAX does not name a folder on a file system that is mounted with DAX")
	}
	dir, err := os.MkdirTemp(dir, "pmem")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestFileOnDAX(t *testing.T) {
	path := filepath.Join(folderDAX(t), "memory")
	const size = 3<<20 + 24
	f, err := Map(path, size, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if f.Domain() != wantedDomain(t) || !f.direct || !f.Resident() {
		t.Errorf("domain %v, direct %v: expected %v by MAP_SYNC", f.Domain(), f.direct, wantedDomain(t))
	}
	if !bytes.Equal(f.Bytes(), make([]byte, size)) {
		t.Error("a new file is not zero")
	}
	persistPattern(t, f, size)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	// The bytes are the file's, however they are read.
	through, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := Map(path, size, Options{Domain: FileShared})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if plain.direct || plain.Domain() != FileShared {
		t.Errorf("declared FileShared, got %v", plain.Domain())
	}
	if !bytes.Equal(plain.Bytes(), through) {
		t.Error("read(2) and the mapping differ")
	}
	checkPattern(t, plain, size)
}

// A file on DAX that is shortened is a fault like any other.
func TestFileOnDAXShortened(t *testing.T) {
	f, err := Map(filepath.Join(folderDAX(t), "memory"), 1<<20, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(f.Name(), 4096); err != nil {
		t.Fatal(err)
	}
	var fault *Fault
	if err := Guard(func() { f.Store64(8192, 1) }); !errors.As(err, &fault) || fault.Off != 8192 || fault.Found != 4096 {
		t.Errorf("%v", err)
	}
}

// patternSeed is new for each process: what an earlier run left in the memory must not pass.
var patternSeed = rand.Uint64()

// persistPattern fills f by every way to make bytes durable.
func persistPattern(t *testing.T, f *File, size uint64) {
	t.Helper()
	want := pattern(size)
	third := size / 3 &^ 7
	copy(f.Bytes()[:third], want)
	f.Persist(0, third)
	f.CopyNT(third, want[third:2*third])
	f.Fence()
	copy(f.Bytes()[2*third:], want[2*third:])
	if err := f.Sync(2*third, size-2*third); err != nil {
		t.Error(err)
	}
	checkPattern(t, f, size)
}

func checkPattern(t *testing.T, f *File, size uint64) {
	t.Helper()
	if !bytes.Equal(f.Bytes()[:size], pattern(size)) {
		t.Errorf("%s does not hold what was written", f.Name())
	}
}

func pattern(n uint64) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(patternSeed, n))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}
