package node

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whale/fabric/verbs"
	"whale/internal/plog"
)

func TestBuffersFitAndAreBounded(t *testing.T) {
	var b buffers
	for _, n := range []int{0, 1, minBuffer, minBuffer + 1, 100_000, 1 << 20, 3 << 20} {
		buf := b.get(n)
		if len(buf) < n || len(buf) < minBuffer {
			t.Fatalf("asked for %d bytes, got %d", n, len(buf))
		}
		b.put(buf)
		if again := b.get(n); &again[0] != &buf[0] {
			t.Errorf("a buffer of %d bytes is not used again", n)
		} else {
			b.put(again)
		}
	}
	// Grown by append to an odd size, it must not be handed out for more than it holds.
	b.put(make([]byte, 3*minBuffer-5))
	for range 3 {
		if buf := b.get(2*minBuffer + 1); len(buf) < 2*minBuffer+1 {
			t.Fatalf("got %d bytes", len(buf))
		}
	}
	for range 10_000 {
		b.put(make([]byte, minBuffer))
	}
	if b.kept > keptBuffer {
		t.Errorf("%d bytes are kept", b.kept)
	}
	b.put(nil)
}

// Values arrive once and in order, and the owner that parks is always woken.
func TestMailboxLosesNoWakeUp(t *testing.T) {
	m, err := newMailbox[int]()
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	const senders, each = 4, 20_000
	for id := range senders {
		go func() {
			for i := range each {
				m.put(id*each + i)
			}
		}()
	}
	next := [senders]int{}
	var in []int
	for got := 0; got < senders*each; {
		in = m.take(in)
		for _, v := range in {
			if v%each != next[v/each] {
				t.Fatalf("sender %d: %d, want %d", v/each, v%each, next[v/each])
			}
			next[v/each]++
			got++
		}
		if len(in) == 0 && m.park() {
			fds := []unix.PollFd{{Fd: int32(m.fd), Events: unix.POLLIN}}
			for {
				n, err := unix.Poll(fds, 10_000)
				if err == unix.EINTR {
					continue
				}
				if n == 0 {
					t.Fatalf("parked for 10 s after %d of %d values", got, senders*each)
				}
				break
			}
			m.silence()
			m.unpark()
		}
	}
}

func TestFolderHasOneOwner(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "node0")
	first, err := OpenFolder(dir, "whale node")
	if err != nil {
		t.Fatal(err)
	}
	if st, _ := os.Stat(dir); st.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v", st.Mode())
	}
	if text, _ := os.ReadFile(filepath.Join(dir, "whale.pid")); string(text) != strconv.Itoa(os.Getpid())+"\n" {
		t.Errorf("whale.pid has %q", text)
	}
	_, err = OpenFolder(dir, "whale node")
	var inUse *InUseError
	if !errors.As(err, &inUse) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())) {
		t.Errorf("a second owner: %v; want an error that names folder and process", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := OpenFolder(dir, "whale node")
	if err != nil {
		t.Fatalf("given free: %v", err)
	}
	again.Close()
}

func TestSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cluster.secret")
	if _, err := ReadSecret(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a missing secret: %v", err)
	}
	if err := CreateSecret(path); err != nil {
		t.Fatal(err)
	}
	first, err := ReadSecret(path)
	if err != nil || len(first) != 32 {
		t.Fatalf("%d bytes, %v", len(first), err)
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	CreateSecret(path)
	if again, _ := ReadSecret(path); !bytes.Equal(first, again) {
		t.Error("an existing secret was replaced")
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
		os.Chmod(path, mode)
		if _, err := ReadSecret(path); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %o: %v; want an error that says what to do", mode, err)
		}
	}
	os.Chmod(path, 0o600)
	for _, text := range []string{"", "abc", strings.Repeat("0", 62), strings.Repeat("x", 64)} {
		os.WriteFile(path, []byte(text), 0o600)
		if _, err := ReadSecret(path); err == nil || !strings.Contains(err.Error(), "hexadecimal") {
			t.Errorf("the secret %q: %v", text, err)
		}
	}
}

func TestListenAddresses(t *testing.T) {
	for addr, ok := range map[string]bool{
		"127.0.0.1:7001": true, "127.9.9.9:1": true, "[::1]:7001": true, "localhost:7001": true,
		"0.0.0.0:7001": false, ":7001": false, "[::]:7001": false, "192.0.2.1:7001": false,
	} {
		err := CheckListen(addr, false)
		if ok != (err == nil) || err != nil && !strings.Contains(err.Error(), "--insecure") {
			t.Errorf("%s: %v", addr, err)
		}
		if err := CheckListen(addr, true); err != nil {
			t.Errorf("%s with --insecure: %v", addr, err)
		}
	}
	if err := CheckListen("7001", false); err == nil || !strings.Contains(err.Error(), "host:port") {
		t.Errorf("no port: %v", err)
	}
	fd, addr, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, _, err := listen(addr); err == nil || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "--port") {
		t.Errorf("a port that is taken: %v; want an error with the address and the setting", err)
	}
	if _, _, err := listen("192.0.2.1:7001"); err == nil || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("another machine's address: %v", err)
	}
	six, addr6, err := listen("[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 here: %v", err)
	}
	defer unix.Close(six)
	if !strings.HasPrefix(addr6, "[::1]:") {
		t.Errorf("bound to %s", addr6)
	}
}

func testHello() hello {
	return hello{From: 2, To: 0, Members: 3, Incarnation: 77, Redis: "127.0.0.1:7003",
		Geometry: plog.Geometry{RingSlots: 64, SegmentSize: 1 << 16, Segments: 2}}
}

func TestHelloAgreement(t *testing.T) {
	names := []string{"/d/a", "/d/b", "/d/c"}
	mine := testHello()
	mine.From, mine.To = 0, 2
	good := testHello()
	if got, err := decodeHello(good.encode()); err != nil || got != good {
		t.Fatalf("%+v, %v; want %+v", got, err, good)
	}
	if err := agree(&mine, &good, names, 2); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		change func(*hello)
		want   []string
	}{
		"members":  {func(h *hello) { h.Members = 4 }, []string{"member 0 (/d/a)", "member 2 (/d/c)", "3 members", "with 4", "--peers"}},
		"geometry": {func(h *hello) { h.Geometry.Segments = 9 }, []string{"member 0 (/d/a)", "member 2 (/d/c)", "9 segments", "--arena"}},
		"itself":   {func(h *hello) { h.From = 0 }, []string{"member 0 (/d/a)", "--id"}},
		"nobody":   {func(h *hello) { h.From = 3 }, []string{"member 3", "--id"}},
		"another":  {func(h *hello) { h.From = 1 }, []string{"member 2 (/d/c)", "found member 1", "--peers"}},
		"mixed up": {func(h *hello) { h.To = 1 }, []string{"member 2 (/d/c)", "member 0 (/d/a)", "for member 1", "--peers"}},
	} {
		theirs := testHello()
		c.change(&theirs)
		err := agree(&mine, &theirs, names, 2)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want %q in it", what, err, want)
			}
		}
	}
	other := good.encode()
	other[8]++
	if _, err := decodeHello(other); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("version %d, expected %d", ProtocolVersion+1, ProtocolVersion)) {
		t.Errorf("another version: %v", err)
	}
}

func FuzzHello(f *testing.F) {
	h := testHello()
	f.Add(h.encode())
	f.Add(h.encode()[:helloSize])
	f.Add([]byte(helloMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHello(b)
		if err != nil {
			return
		}
		again, err := decodeHello(h.encode())
		if err != nil || again != h {
			t.Fatalf("%+v came back as %+v, %v", h, again, err)
		}
		mine := testHello()
		agree(&mine, &h, []string{"a", "b", "c"}, -1)
		if strings.ContainsAny(h.Redis, "\r\n ") {
			t.Fatalf("an address that breaks replies: %q", h.Redis)
		}
	})
}

func TestComplaintIsMadeOnce(t *testing.T) {
	var out bytes.Buffer
	c := complaint{log: slog.New(slog.NewTextHandler(&out, nil)), what: "trouble", since: time.Now()}
	said := func() int { n := strings.Count(out.String(), "\n"); out.Reset(); return n }
	c.report(errors.New("not yet there"))
	if n := said(); n != 0 {
		t.Errorf("a young trouble is worth %d lines", n)
	}
	c.report(&refusal{errors.New("wrong secret")})
	c.report(&refusal{errors.New("wrong secret")})
	if n := said(); n != 1 {
		t.Errorf("a refusal, twice: %d lines, want 1", n)
	}
	c.since = time.Now().Add(-time.Hour)
	c.report(errors.New("refused"))
	c.report(errors.New("refused"))
	c.report(errors.New("timed out"))
	if n := said(); n != 2 {
		t.Errorf("two old troubles: %d lines, want 2", n)
	}
	for port := range 20 {
		c.report(fmt.Errorf("127.0.0.1:%d: garbage", 40000+port))
		c.report(errors.New("timed out"))
	}
	if n := said(); n != 1 {
		t.Errorf("one stranger again and again, between what was said: %d lines, want 1", n)
	}
	c.over()
	c.over()
	if n := said(); n != 1 {
		t.Errorf("its end: %d lines, want 1", n)
	}
}

func TestConfigErrors(t *testing.T) {
	good := func() Config { return Config{ID: 1, Peers: []string{"a", "b"}, Listen: "127.0.0.1:0"} }
	for want, change := range map[string]func(*Config){
		"--peers":          func(c *Config) { c.Peers = nil },
		"--id 2":           func(c *Config) { c.ID = 2 },
		"--id -1":          func(c *Config) { c.ID = -1 },
		"same data folder": func(c *Config) { c.Peers = []string{"a", "./a"} },
		"--fabric":         func(c *Config) { c.Fabric = "ib" },
		"--dir":            func(c *Config) { c.Fabric = FabricTCP },
		"host:port":        func(c *Config) { c.Fabric, c.Dir = FabricTCP, "d" },
		"same address":     func(c *Config) { c.Fabric, c.Dir, c.Peers = FabricTCP, "d", []string{"h:1", "h:1"} },
		"--fabric-listen":  func(c *Config) { c.FabricListen = "127.0.0.1:1" },
		"fabric address":   func(c *Config) { c.Fabric, c.Dir, c.Peers = FabricTCP, "d", []string{"127.0.0.1:1", "192.0.2.1:1"} },
		"--device":         func(c *Config) { c.Device = "mlx5_0" },
		"--direct-write":   func(c *Config) { c.DirectWrite = true },
		"encrypts nothing": func(c *Config) {
			c.Fabric, c.Dir, c.Peers, c.TLS.Cert = FabricVerbs, "d", []string{"127.0.0.1:1", "192.0.2.1:1"}, "cert"
		},
		"--insecure": func(c *Config) { c.Listen = "0.0.0.0:1" },
		"--threads":  func(c *Config) { c.Threads = MaxThreads + 1 },
		"mirrors":    func(c *Config) { c.Mirrors = 2 },
	} {
		c := good()
		change(&c)
		if err := c.setDefaults(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q in it", err, want)
		}
	}
	c := good()
	if err := c.setDefaults(); err != nil {
		t.Fatal(err)
	}
	c = good()
	c.Fabric, c.Dir, c.Peers, c.Device = FabricVerbs, "d", []string{"127.0.0.1:1", "127.0.0.1:2"}, "mlx5_0"
	if err := c.setDefaults(); verbs.Built && err != nil || !verbs.Built && !errors.Is(err, verbs.ErrNotBuilt) {
		t.Errorf("RDMA built in: %v; %v", verbs.Built, err)
	}
}

func TestParentWatch(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fd, _ := unix.Dup(int(r.Fd()))
	r.Close()
	gone := make(chan struct{})
	if err := WatchParent(fd, func() { close(gone) }); err != nil {
		t.Fatal(err)
	}
	w.WriteString("a parent that writes lives")
	select {
	case <-gone:
		t.Fatal("gone while the pipe is open")
	default:
	}
	w.Close()
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Fatal("the end of the parent was not noticed")
	}
	if err := WatchParent(9999, func() {}); err == nil || !strings.Contains(err.Error(), "--parent-fd 9999") {
		t.Errorf("no descriptor: %v", err)
	}
}

func TestReporterNeverBlocks(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fd, _ := unix.Dup(int(w.Fd()))
	w.Close()
	report, err := Reporter(fd)
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		for i := range 100_000 { // much more than the pipe holds
			report(State{Role: "backup", Epoch: uint32(i)})
		}
		report(State{Role: "backup", Epoch: 999_999, Serving: true})
	})
	done.Wait()
	seen := ""
	for buf := make([]byte, 4096); !strings.Contains(seen, fmt.Sprint(999_999)); {
		n, err := r.Read(buf)
		if err != nil {
			t.Fatalf("%v; the last state is missing: %.200q", err, seen)
		}
		seen = seen[max(0, len(seen)-300):] + string(buf[:n])
	}
}
