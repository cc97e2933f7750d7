package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"whale/internal/plog"
	"whale/pmem"
)

// A memory elsewhere belongs to its folder from the first start on: without the setting it is found, another is refused, and
// when it is not there (its file system is not mounted) no empty one takes its place.
func TestMemoryElsewhere(t *testing.T) {
	c := newCluster(t, 1, nil)
	path := filepath.Join(t.TempDir(), "elsewhere")
	c.change = func(cfg *Config) { cfg.Memory = path }
	c.startAll()
	if got := c.nodes[0].memory.Name(); got != path {
		t.Errorf("the memory is %s", got)
	}
	c.dial(0).do("SET", "a", "1")
	link := filepath.Join(c.dirs[0], memoryFile)
	if target, err := os.Readlink(link); err != nil || target != path {
		t.Errorf("the link leads to %q, %v", target, err)
	}
	cfg := c.config(0)
	cfg.Dir = filepath.Join(c.dir, "other")
	cfg.Peers = []string{cfg.Dir}
	if n, err := Open(cfg); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "another node") {
		t.Errorf("a second node with that memory: %v", err)
		if err == nil {
			n.Close()
		}
	}
	c.stop(0)

	c.change = func(cfg *Config) { cfg.Memory = path + "2" }
	c.expectPermanent(0, path, path+"2", "--memory")
	if _, err := os.Stat(path + "2"); err == nil {
		t.Error("it was created")
	}
	c.change = nil
	c.startAll()
	if got := c.dial(0).do("GET", "a"); got != bulk("1") {
		t.Errorf("without the setting: %q", got)
	}
	c.stop(0)

	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	for _, asked := range []string{"", path} {
		c.change = func(cfg *Config) { cfg.Memory = asked }
		c.expectPermanent(0, path, link, "mounted")
		if _, err := os.Stat(path); err == nil {
			t.Fatal("an empty memory took its place")
		}
	}
}

func TestFolderWithAMemoryOfItsOwn(t *testing.T) {
	c := newCluster(t, 1, nil).startAll()
	c.stop(0)
	path := filepath.Join(t.TempDir(), "elsewhere")
	c.change = func(cfg *Config) { cfg.Memory = path }
	c.expectPermanent(0, path, filepath.Join(c.dirs[0], memoryFile), "--memory")
	if _, err := os.Stat(path); err == nil {
		t.Error("it was created")
	}
}

// A memory in a folder is not another node's to take by its path.
func TestMemoryOfAnotherFolder(t *testing.T) {
	c := newCluster(t, 1, nil).startAll()
	cfg := c.config(0)
	cfg.Dir, cfg.Memory = filepath.Join(c.dir, "other"), filepath.Join(c.dirs[0], memoryFile)
	cfg.Peers = []string{cfg.Dir}
	n, err := Open(cfg)
	if err == nil {
		n.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "another node") {
		t.Errorf("a second node with the memory of a running one: %v", err)
	}
}

func TestMemoryThatIsNoMemory(t *testing.T) {
	c := newCluster(t, 1, func(cfg *Config) { cfg.Memory = "/dev/null" })
	c.expectPermanent(0, "/dev/null", "device DAX")
	c.change = func(cfg *Config) { cfg.Memory = "/dev/dax99.9" }
	c.expectPermanent(0, "/dev/dax99.9", "no such")
	c.change = func(cfg *Config) { cfg.Memory = "/dev/null/memory" }
	c.expectPermanent(0, "/dev/null/memory", "not a directory")
}

// TestMemoryOnADevice needs persistent memory, or an emulated one (see lab/): WHALE_TEST_DAX names a device that may be
// overwritten.
func TestMemoryOnADevice(t *testing.T) {
	path := os.Getenv("WHALE_TEST_DAX")
	if path == "" {
		t.Skip("WHALE_TEST_DAX does not name a device of device DAX to be overwritten")
	}
	fill := func(from, to int, value byte) {
		m, err := pmem.Map(path, 0, pmem.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		b := m.Bytes()
		if to == 0 {
			to = len(b)
		}
		for i := range b[from:to] {
			b[from+i] = value
		}
		m.Persist(uint64(from), uint64(to-from))
		m.Fence()
	}
	c := newCluster(t, 1, func(cfg *Config) { cfg.Memory, cfg.Arena = path, 0 })
	fill(0, 0, 0)
	fill(100<<20, 100<<20+1, 7)
	c.expectPermanent(0, path, fmt.Sprint(99<<20+plog.SuperblockSize), "zeros")
	fill(0, 4096, 7)
	c.expectPermanent(0, path, "zeros")
	fill(0, 4096, 0)
	fill(100<<20, 100<<20+1, 0)

	c.startAll()
	arena := c.nodes[0].records.Geometry().ArenaSize()
	if size, got := uint64(len(c.nodes[0].memory.Bytes())), c.nodes[0].memory.Domain().String(); size < arena || arena < 64<<20 || got != os.Getenv("WHALE_TEST_DOMAIN") {
		t.Errorf("an arena of %d bytes in a memory of %d, domain %s", arena, size, got)
	}
	c.dial(0).do("SET", "a", "1")
	c.stop(0)
	c.change = func(cfg *Config) { cfg.Arena = 0 } // the link leads to the device, and its size is what was formatted
	c.startAll()
	if got := c.dial(0).do("GET", "a"); got != bulk("1") {
		t.Errorf("after a restart: %q", got)
	}
	c.stop(0)
	c.change = func(cfg *Config) { cfg.Arena = smallArena }
	c.expectPermanent(0, path, "--arena")
	fill(0, 0, 0)

	// A part of the device.
	other := newCluster(t, 1, func(cfg *Config) { cfg.Memory = path }).startAll()
	if got := other.nodes[0].records.Geometry().ArenaSize(); got != smallArena {
		t.Errorf("an arena of %d bytes", got)
	}
}
