package shm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"whale/fabric"
	"whale/fabric/fabrictest"
	"whale/fabric/internal/handshake"
	"whale/pmem"
)

func yes([]byte) ([]byte, error) { return nil, nil }

func TestAnotherSecretIsRefusedOnBothSides(t *testing.T) {
	a := open(t, t.TempDir())
	b, err := Open(t.TempDir(), Options{Secret: []byte("not the secret of these tests")})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	accepted := make(chan error, 1)
	go func() {
		_, err := b.Accept(t.Context(), yes)
		accepted <- err
	}()
	if _, _, err := a.Dial(t.Context(), b.Addr(), nil); !errors.Is(err, fabric.ErrAuth) {
		t.Errorf("dial: %v, want ErrAuth", err)
	}
	if err := <-accepted; !errors.Is(err, fabric.ErrAuth) {
		t.Errorf("accept: %v, want ErrAuth", err)
	}
	if n := usedLines(a) + usedLines(b); n != 0 {
		t.Errorf("%d lines were given to strangers", n)
	}
}

func usedLines(e *Endpoint) (n int) {
	for i := range e.control.lines {
		if odd(e.control.lines[i].gen.Load()) {
			n++
		}
	}
	return n
}

func TestSecretIsNeeded(t *testing.T) {
	if _, err := Open(t.TempDir(), Options{Secret: []byte("short")}); err == nil {
		t.Fatal("a secret of 5 bytes was taken")
	}
}

func TestRefusalFreesTheLines(t *testing.T) {
	a, b := open(t, t.TempDir()), open(t, t.TempDir())
	for range 3 {
		_, _, _, err := fabrictest.DialAccept(a, b, nil, func([]byte) ([]byte, error) { return nil, errors.New("not here") })
		if !errors.Is(err, handshake.ErrRefused) || !strings.Contains(err.Error(), "not here") {
			t.Fatalf("dial: %v", err)
		}
	}
	until(t, "the lines are free", func() bool { return usedLines(a)+usedLines(b) == 0 })
}

func TestDialEndsWithItsContext(t *testing.T) {
	a, b := open(t, t.TempDir()), open(t, t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := a.Dial(ctx, b.Addr(), nil); !errors.Is(err, context.DeadlineExceeded) { // nobody accepts
		t.Errorf("dial: %v, want DeadlineExceeded", err)
	}
	if _, err := b.Accept(ctx, yes); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("accept: %v, want DeadlineExceeded", err)
	}
	if _, _, err := a.Dial(t.Context(), filepath.Join(b.Addr(), "none"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("dial of nobody: %v, want ErrNotExist", err)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	w := wire(t, 4096)
	accepting, dialing, waiting := make(chan error), make(chan error), make(chan bool)
	other := open(t, t.TempDir())
	go func() { _, err := w.a.Accept(t.Context(), yes); accepting <- err }()
	go func() { _, _, err := w.a.Dial(t.Context(), other.Addr(), nil); dialing <- err }()
	for !w.a.Arm() {
	}
	go func() { w.a.Wait(patience); close(waiting) }()
	if err := w.a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-accepting; !errors.Is(err, fabric.ErrClosed) {
		t.Errorf("accept: %v, want ErrClosed", err)
	}
	if err := <-dialing; !errors.Is(err, fabric.ErrClosed) {
		t.Errorf("dial: %v, want ErrClosed", err)
	}
	select {
	case <-waiting:
	case <-time.After(patience / 2):
		t.Error("Wait did not end")
	}
	// What comes late is refused, and nothing is touched that is gone.
	var done [2]fabric.Completion
	if n := w.ab.Post([]fabric.Op{w.write(0, 64, 0)}); n != 1 || w.ab.Poll(done[:]) != 1 || !errors.Is(done[0].Err, fabric.ErrFlushed) {
		t.Errorf("a write after Close: %v", done[0])
	}
	if _, err := w.a.Register(pmem.Heap(64), 0, 64, fabric.LocalOnly); !errors.Is(err, fabric.ErrClosed) {
		t.Errorf("register: %v, want ErrClosed", err)
	}
	if _, err := w.a.Accept(t.Context(), yes); !errors.Is(err, fabric.ErrClosed) {
		t.Errorf("accept: %v, want ErrClosed", err)
	}
	if w.a.Arm() {
		t.Error("Arm is true after Close")
	}
	w.a.Wait(time.Hour)
	if err := errors.Join(w.a.Close(), w.ab.Close()); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	if _, err := os.Stat(filepath.Join(w.a.Addr(), socketName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

// TestNothingLandsAfterThePeerClosed, also from a peer that has not noticed yet.
func TestNothingLandsAfterThePeerClosed(t *testing.T) {
	w := wire(t, 4096)
	w.from[0] = 'x'
	if err := w.ba.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, "the watch has noticed", func() bool { return w.ab.broken.Load() != nil })
	w.ab.broken.Store(nil)
	var done [1]fabric.Completion
	w.ab.Post([]fabric.Op{w.write(0, 64, fabric.Signaled)})
	if n := w.ab.Poll(done[:]); n != 1 || !errors.Is(done[0].Err, fabric.ErrBroken) || w.to[0] != 0 {
		t.Fatalf("%v, and the byte is %q", done[:n], w.to[0])
	}
}

// TestALateComerLeavesTheNextPeersLineAlone: a peer that has not noticed that its line was closed, and given to another,
// must not make that one look idle.
func TestALateComerLeavesTheNextPeersLineAlone(t *testing.T) {
	for _, inside := range []bool{false, true} {
		w := wire(t, 4096)
		if err := w.ba.Close(); err != nil {
			t.Fatal(err)
		}
		until(t, "the watch has noticed", func() bool { return w.ab.broken.Load() != nil })
		w.ab.broken.Store(nil)
		next, _, _, err := fabrictest.DialAccept(open(t, t.TempDir()), w.b, nil, yes)
		if err != nil {
			t.Fatal(err)
		}
		c := next.(*conn)
		if w.ba.index != c.peerIndex() {
			t.Fatal("the line was not given to the next")
		}
		if inside {
			c.enter()
		}
		var done [1]fabric.Completion
		w.ab.Post([]fabric.Op{w.write(0, 64, fabric.Signaled)})
		if n := w.ab.Poll(done[:]); n != 1 || !errors.Is(done[0].Err, fabric.ErrBroken) {
			t.Fatalf("the late comer: %v", done[:n])
		}
		if !inside {
			c.enter()
		}
		if err := w.b.Revoke(w.remote); !errors.Is(err, fabric.ErrInFlight) {
			t.Fatalf("Revoke with the next peer inside: %v, want ErrInFlight", err)
		}
		c.leave()
		if err := w.b.Revoke(w.remote); err != nil || c.err != nil {
			t.Fatalf("Revoke: %v, the next peer: %v", err, c.err)
		}
	}
}

// peerIndex is which of the peer's lines this end has.
func (c *conn) peerIndex() int {
	return int((uintptr(unsafe.Pointer(c.peer.line)) - uintptr(unsafe.Pointer(&c.peer.control.lines))) / unsafe.Sizeof(line{}))
}

// TestManyConnections: lines, descriptors, mappings and goroutines are given back.
func TestManyConnections(t *testing.T) {
	p := newPair(t)
	a, b := p.A.(*Endpoint), p.B.(*Endpoint)
	to := mapped(t, 4096)
	from := register(t, a, pmem.Heap(64), fabric.LocalOnly)
	key := register(t, b, to, allRights)
	connect := func() {
		ab, ba, _, err := p.Connect(nil, yes)
		if err != nil {
			t.Fatal(err)
		}
		ab.Post([]fabric.Op{{Kind: fabric.Write, Flags: fabric.Signaled, Local: fabric.Span{Key: from}, Remote: fabric.Addr{Key: key}, Len: 64}})
		var done [1]fabric.Completion
		if ab.Poll(done[:]) != 1 || done[0].Err != nil {
			t.Fatal(done[0])
		}
		ab.Close()
		ba.Close()
	}
	resources := func() (n [3]int) {
		fds, _ := os.ReadDir("/proc/self/fd")
		maps, _ := os.ReadFile("/proc/self/maps")
		return [3]int{len(fds), strings.Count(string(maps), t.Name()), runtime.NumGoroutine()}
	}
	connect()
	before := resources()
	for range 40 {
		connect()
	}
	if n := usedLines(a) + usedLines(b); n != 2 { // of the pair
		t.Errorf("%d lines are in use, want 2", n)
	}
	until(t, "as many descriptors, mappings and goroutines as before", func() bool {
		now := resources()
		return now[0] <= before[0] && now[1] <= before[1] && now[2] <= before[2]
	})
}

func TestNoLineIsLeft(t *testing.T) {
	a := open(t, t.TempDir())
	for i := range a.control.lines {
		a.control.lines[i].gen.Store(1)
	}
	b := open(t, t.TempDir())
	if _, _, _, err := fabrictest.DialAccept(b, a, nil, yes); !errors.Is(err, handshake.ErrRefused) || !strings.Contains(err.Error(), "connections") {
		t.Fatalf("dial: %v", err)
	}
}

func TestLongPath(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("f", 120), strings.Repeat("g", 120))
	a, b := open(t, long), open(t, t.TempDir())
	if _, _, _, err := fabrictest.DialAccept(b, a, nil, yes); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), strings.Repeat("m", 250), strings.Repeat("n", 240), "memory")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	m, err := pmem.Map(path, 4096, pmem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := a.Register(m, 0, 64, fabric.RemoteRead); err == nil || !strings.Contains(err.Error(), path) {
		t.Fatalf("register of a path of %d bytes: %v", len(path), err)
	}
}

func TestRegisterRefuses(t *testing.T) {
	e := open(t, t.TempDir())
	m := mapped(t, 4096)
	for name, f := range map[string]func() (fabric.Key, error){
		"heap memory for peers": func() (fabric.Key, error) { return e.Register(pmem.Heap(64), 0, 64, fabric.RemoteRead) },
		"too long":              func() (fabric.Key, error) { return e.Register(m, 64, 4096, allRights) },
		"wrapping":              func() (fabric.Key, error) { return e.Register(m, 64, ^uint64(0), allRights) },
		"nothing":               func() (fabric.Key, error) { return e.Register(m, 0, 0, allRights) },
		"unknown right":         func() (fabric.Key, error) { return e.Register(m, 0, 64, 128) },
	} {
		if key, err := f(); err == nil || key != 0 {
			t.Errorf("%s: key %#x, %v", name, key, err)
		}
	}
	for i := range keyEntries {
		if _, err := e.Register(m, 0, 64, allRights); err != nil {
			t.Fatalf("registration %d: %v", i, err)
		}
	}
	if _, err := e.Register(m, 0, 64, allRights); err == nil {
		t.Error("one registration too many")
	}
}

func TestFilesArePrivateAndChecked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	a, b := open(t, dir), open(t, t.TempDir())
	if _, _, _, err := fabrictest.DialAccept(b, a, nil, yes); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{controlName, socketName, inboxName(0)} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want mode 0600", name, st.Mode(), err)
		}
	}
	if st, _ := os.Stat(dir); st.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, want mode 0700", st.Mode())
	}
	for name, spoil := range map[string]func(c *control){
		"magic":   func(c *control) { c.magic.Store(1) },
		"version": func(c *control) { c.version.Store(version + 1) },
	} {
		e, err := Open(t.TempDir(), Options{Secret: testSecret})
		if err != nil {
			t.Fatal(err)
		}
		spoil(e.control)
		e.Close()
		if _, err := Open(e.dir, Options{Secret: testSecret}); err == nil || !strings.Contains(err.Error(), filepath.Join(e.dir, controlName)) {
			t.Errorf("another %s: %v, want an error that names the file", name, err)
		}
	}
}

func FuzzDecodeOffer(f *testing.F) {
	o := offer{start: 1, line: 2, gen: 3, control: identity{4, 5}, inbox: identity{6, 7}, dir: "/a/folder", doorbell: -1}
	f.Add(o.encode([]byte("hello")))
	f.Add(o.encode(nil)[:60])
	o.line = lines
	f.Add(o.encode(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, rest, err := decodeOffer(b)
		if err != nil {
			return
		}
		if got := string(o.encode(rest)); got != string(b) {
			t.Fatalf("%x decoded to what encodes as %x", b, got)
		}
		if o.line >= lines || !filepath.IsAbs(o.dir) || len(rest) > handshake.MaxBlob {
			t.Fatalf("accepted %+v", o)
		}
	})
}
