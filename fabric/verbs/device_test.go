//go:build verbs && cgo && linux

package verbs

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"whale/fabric"
	"whale/fabric/fabrictest"
	"whale/pmem"
)

// lowered are the checks of the suite in which it matters what operations become, quick ones.
var lowered = []string{
	"write8", "atomics", "flush", "inline", "zero length", "Fence", "Fenced", "Write8 behind Write", "a full queue", "random traffic against a model", "a ring after Arm",
}

// TestConformanceWithout: what takes the place of what a device or library does not have.
func TestConformanceWithout(t *testing.T) {
	for name, c := range map[string]struct {
		without uint32
		checks  []string
	}{
		"FLUSH and ATOMIC WRITE": {sendFlush | sendWrite8, append([]string{"rights", "Revoke", "ping-pong"}, lowered...)},
		"the newer way to post":  {^uint32(0), lowered},
	} {
		t.Run(name, func(t *testing.T) {
			processors(t)
			for check, msg := range fabrictest.Failures(t, func(t testing.TB) *fabrictest.Pair { return pair(t, Options{}, c.without, anonymous) }, c.checks...) {
				t.Errorf("%s: %s", check, msg)
			}
			p := pair(t, Options{}, c.without, anonymous)
			if plan := p.AB.(*conn).plan; plan.flush || plan.atomicWrite || plan.flushNative {
				t.Errorf("tested with %+v", plan)
			}
		})
	}
}

// TestConformanceWithoutInline: a device that takes no bytes inside a request.
func TestConformanceWithoutInline(t *testing.T) {
	processors(t)
	f := func(t testing.TB) *fabrictest.Pair {
		p := pair(t, Options{}, sendFlush|sendWrite8, anonymous)
		p.A.(*Endpoint).inline, p.B.(*Endpoint).inline = 0, 0
		return p
	}
	for check, msg := range fabrictest.Failures(t, f, "write8", "inline", "random traffic against a model", "Write8 behind Write") {
		t.Errorf("%s: %s", check, msg)
	}
}

// window is a part of a memory.
type window struct {
	pmem.Memory
	off, n uint64
}

func (w *window) Bytes() []byte                 { return w.Memory.Bytes()[w.off:][:w.n:w.n] }
func (w *window) Persist(off, n uint64)         { w.Memory.Persist(w.off+off, n) }
func (w *window) CopyNT(off uint64, src []byte) { w.Memory.CopyNT(w.off+off, src) }
func (w *window) Load64(off uint64) uint64      { return w.Memory.Load64(w.off + off) }
func (w *window) Store64(off, v uint64)         { w.Memory.Store64(w.off+off, v) }
func (w *window) Sync(off, n uint64) error      { return w.Memory.Sync(w.off+off, n) }

// persistent is the device of device DAX that WHALE_VERBS_DAX names, handed out in windows.
func persistent(t testing.TB) func(t testing.TB, size uint64) pmem.Memory {
	t.Helper()
	path := os.Getenv("WHALE_VERBS_DAX")
	if path == "" {
		t.Skip("WHALE_VERBS_DAX is not set: it names a device of device DAX, for instance /dev/dax0.0")
	}
	f, err := pmem.Map(path, 0, pmem.Options{Domain: pmem.ADR}) // an emulated NVDIMM may not say so by itself
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	next := uint64(0)
	return func(t testing.TB, size uint64) pmem.Memory {
		off := next % uint64(len(f.Bytes())/2)
		next = off + (size+4095)/4096*4096
		return &window{f, off, size}
	}
}

// TestPersistentMemory: the suite's checks of flushes over persistent memory, by FLUSH of the device and, between ends that
// do not have it, by READ if that was declared to be enough.
func TestPersistentMemory(t *testing.T) {
	memory := persistent(t)
	processors(t)
	for name, c := range map[string]struct {
		o       Options
		without uint32
		native  bool
		domain  pmem.Domain
		ordered bool // non-temporal writes are taken
	}{
		"FLUSH":                       {Options{Domain: pmem.ADR}, 0, true, pmem.ADR, false},
		"READ and DirectWrite":        {Options{Domain: pmem.ADR, DirectWrite: true}, sendFlush, false, pmem.ADR, true},
		"nothing that makes it so":    {Options{Domain: pmem.ADR}, sendFlush, false, pmem.None, false},
		"the older way, DirectWrite":  {Options{Domain: pmem.ADR, DirectWrite: true}, ^uint32(0), false, pmem.ADR, true},
		"memory that needs no flush":  {Options{Domain: pmem.FileShared}, 0, true, pmem.FileShared, true},
		"which survives nothing here": {Options{}, 0, true, pmem.None, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := func(t testing.TB) *fabrictest.Pair { return pair(t, c.o, c.without, memory) }
			if caps := f(t).AB.Caps(); caps.Domain != c.domain || caps.NativeFlush != c.native || caps.NonTemporal != c.ordered {
				t.Fatalf("%+v, want domain %v, native %v, non-temporal %v", caps, c.domain, c.native, c.ordered)
			}
			checks := []string{"flush", "random traffic against a model", "durable Fence", "non-temporal writes land in order"}
			if c.native && c.domain == pmem.ADR {
				checks = append(checks, "rights", "write", "Revoke with operations under way", "ping-pong")
			}
			for check, msg := range fabrictest.Failures(t, f, checks...) {
				t.Errorf("%s: %s", check, msg)
			}
		})
	}
}

// await polls until a completion is there.
func await(t testing.TB, c fabric.Conn) fabric.Completion {
	t.Helper()
	var done [1]fabric.Completion
	for end := time.Now().Add(10 * time.Second); c.Poll(done[:]) == 0; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("no completion")
		}
	}
	return done[0]
}

func register(t testing.TB, e fabric.Endpoint, m pmem.Memory, rights fabric.Rights) fabric.Key {
	t.Helper()
	key, err := e.Register(m, 0, uint64(len(m.Bytes())), rights)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestTheDeviceChecks: what a peer asks for with a key that it made up is refused by the device, not only by the peer's own
// good manners: rights that the key does not give, an rkey that belongs to a later registration.
func TestTheDeviceChecks(t *testing.T) {
	memory := persistent(t)
	made := func(k fabric.Key, rights fabric.Rights, serial uint64) fabric.Key {
		rkey, _, iova := openKey(k)
		return makeKey(rkey, rights, iova+serial<<spanBits)
	}
	for name, c := range map[string]struct {
		given fabric.Rights
		op    fabric.Op
		claim fabric.Rights
		later uint64
	}{
		"Write":          {fabric.RemoteRead, fabric.Op{Kind: fabric.Write, Len: 8}, allRights, 0},
		"Write8":         {fabric.RemoteRead, fabric.Op{Kind: fabric.Write8}, allRights, 0},
		"Read":           {fabric.RemoteWrite, fabric.Op{Kind: fabric.Read, Len: 8}, allRights, 0},
		"FetchAdd":       {fabric.RemoteWrite, fabric.Op{Kind: fabric.FetchAdd, A: 1}, allRights, 0},
		"durable Flush":  {fabric.RemoteWrite, fabric.Op{Kind: fabric.Flush, A: fabric.Durable, Len: 64}, allRights, 0},
		"region Flush":   {fabric.RemoteWrite, fabric.Op{Kind: fabric.Flush, A: fabric.Durable, B: fabric.Region}, allRights, 0},
		"any Flush":      {fabric.LocalOnly, fabric.Op{Kind: fabric.Flush, A: fabric.Visible, Len: 64}, allRights, 0},
		"an old key":     {allRights, fabric.Op{Kind: fabric.Write, Len: 8}, allRights, 1},
		"a very old one": {allRights, fabric.Op{Kind: fabric.Read, Len: 8}, allRights, 1<<serialBits - 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := pair(t, Options{Domain: pmem.ADR}, 0, memory)
			near, far := memory(t, 64), memory(t, 64)
			copy(near.Bytes(), "something to write")
			clear(far.Bytes())
			op := c.op
			op.Local.Key = register(t, p.A, near, fabric.LocalOnly)
			op.Remote.Key = made(register(t, p.B, far, c.given), c.claim, c.later)
			p.AB.Post([]fabric.Op{op})
			if d := await(t, p.AB); !errors.Is(d.Err, fabric.ErrAccess) || !strings.Contains(d.Err.Error(), "remote access error") {
				t.Errorf("%v", d.Err)
			}
			if !bytes.Equal(far.Bytes(), make([]byte, 64)) {
				t.Error("the memory changed")
			}
		})
	}
}

// TestRegisterRefuses memory that a card must not have, with the reason.
func TestRegisterRefuses(t *testing.T) {
	a, _ := places(t)
	e := endpoint(t, a, Options{Domain: pmem.FileShared}, 0)
	refused := func(m pmem.Memory, off, n uint64, rights fabric.Rights, want string) {
		t.Helper()
		if _, err := e.Register(m, off, n, rights); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
	refused(pmem.Heap(4096), 0, 4096, fabric.RemoteRead, "Go's heap")
	refused(anonymous(t, 4096), 8, 64, fabric.RemoteRead, "multiple of 64")
	refused(anonymous(t, 4096), 0, 64, fabric.RemoteFlush, "declares FileShared")
	if dir := os.Getenv("WHALE_VERBS_FSDAX"); dir == "" {
		t.Log("WHALE_VERBS_FSDAX is not set: it names a folder on a file system with DAX, whose files are to be refused")
	} else {
		f, err := pmem.Map(filepath.Join(dir, "verbs-test"), 1<<20, pmem.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(f.Name())
		defer f.Close()
		refused(f, 0, 4096, fabric.RemoteRead, "fsdax")
		refused(f, 0, 4096, fabric.LocalOnly, "fsdax")
	}
}

// TestOpenSaysWhatIsThere when what was asked for is not.
func TestOpenSaysWhatIsThere(t *testing.T) {
	a, _ := places(t)
	for _, c := range []struct {
		device, addr string
		want         []string
	}{
		{"mlx5_99", a.addr, []string{`"mlx5_99"`, a.device}},
		{a.device, "192.0.2.9", []string{"192.0.2.9", a.device, a.addr, "RoCE v2"}},
		{"", "192.0.2.9", []string{a.device, a.addr}},
		{a.device + ":7", a.addr, []string{a.device}},
		{a.device + ":x", a.addr, []string{"port of a device"}},
	} {
		err := a.inside(func() error {
			e, err := Open(Options{Device: c.device, Listen: net.JoinHostPort(c.addr, "0"), Secret: testSecret})
			if err == nil {
				e.Close()
			} else if e != nil {
				t.Errorf("device %q: an error and an endpoint", c.device)
			}
			return err
		})
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("device %q at %s: %v, want %q in it", c.device, c.addr, err, want)
			}
		}
	}
	e := endpoint(t, place{"", a.addr, a.netns}, Options{}, 0) // found by its address
	if e.dev.name != a.device {
		t.Errorf("%s is taken for the address of %s", a.addr, e.dev.name)
	}
	devices, err := Devices()
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(devices, func(d Device) bool { return d.Name == a.device })
	if at < 0 || len(devices[at].Ports) == 0 || !slices.ContainsFunc(devices[at].Ports[0].GIDs, func(g GID) bool { return g.Addr == a.addr }) {
		t.Errorf("%+v", devices)
	}
}

// count is how many entries a folder of this process's has.
func count(t testing.TB, dir string) int {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// TestCloseLeavesNothing: no descriptor, goroutine, thread or mapping of an endpoint is there after Close, whether its
// connections ended well, broke, or were never used; threads that Go keeps for itself do not grow with the endpoints.
func TestCloseLeavesNothing(t *testing.T) {
	places(t)
	round := func() {
		t.Run("", func(t *testing.T) {
			p := pair(t, Options{}, 0, anonymous)
			m := anonymous(t, 4096)
			local, remote := register(t, p.A, m, fabric.LocalOnly), register(t, p.B, m, allRights)
			for range 3 {
				a, b, _, err := p.Connect(nil, func([]byte) ([]byte, error) { return nil, nil })
				if err != nil {
					t.Fatal(err)
				}
				a.Post([]fabric.Op{{Kind: fabric.Write, Len: 8, Local: fabric.Span{Key: local}, Remote: fabric.Addr{Key: remote, Off: 5000}}})
				await(t, a)
				_ = b // Close of the endpoint finds it
			}
			p.Connect(nil, func([]byte) ([]byte, error) { return nil, errors.New("no") })
		})
	}
	round() // what is made once and kept
	fds, goroutines, threads := count(t, "/proc/self/fd"), runtime.NumGoroutine(), count(t, "/proc/self/task")
	for range 5 {
		round()
	}
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > goroutines && time.Now().Before(end); runtime.Gosched() {
	}
	if n := count(t, "/proc/self/fd"); n > fds {
		t.Errorf("%d descriptors, %d before", n, fds)
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
	if n := count(t, "/proc/self/task"); n > threads+4 {
		t.Errorf("%d threads, %d before", n, threads)
	}
	if maps, _ := os.ReadFile("/proc/self/maps"); bytes.Contains(maps, []byte("uverbs")) {
		t.Error("memory of the device is still mapped")
	}
}

// TestDisappearsUnderWay: a peer that is gone without a word, while the queue is full of what it was to do.
func TestDisappearsUnderWay(t *testing.T) {
	p := pair(t, Options{}, 0, anonymous)
	m := anonymous(t, 1<<20)
	local, remote := register(t, p.A, m, fabric.LocalOnly), register(t, p.B, anonymous(t, 1<<20), allRights)
	var ops []fabric.Op
	for range p.AB.Caps().QueueDepth {
		ops = append(ops, fabric.Op{Kind: fabric.Write, Flags: fabric.Signaled, Len: 64 << 10, Local: fabric.Span{Key: local}, Remote: fabric.Addr{Key: remote}})
	}
	if n := p.AB.Post(ops); n != len(ops) {
		t.Fatalf("%d taken of %d", n, len(ops))
	}
	p.Kill()
	for i, broken := 0, false; i < len(ops); i++ {
		switch d := await(t, p.AB); {
		case d.Err == nil && !broken:
		case errors.Is(d.Err, fabric.ErrBroken) && !broken:
			broken = true
		case errors.Is(d.Err, fabric.ErrFlushed) && broken:
		default:
			t.Fatalf("completion %d: %v (broken: %v)", i, d.Err, broken)
		}
	}
}

// TestNotificationsNobodyTakes: more of them than there are receive buffers wait at the sender until the receiver looks,
// and none is lost or turned into an error.
func TestNotificationsNobodyTakes(t *testing.T) {
	p := pair(t, Options{}, 0, anonymous)
	near, far := anonymous(t, 4096), anonymous(t, 4096)
	local, remote := register(t, p.A, near, fabric.LocalOnly), register(t, p.B, far, allRights)
	const n = 3 * receiveDepth
	for i := range uint64(n) {
		near.Store64(8*i, i+1)
		op := fabric.Op{Kind: fabric.Write, Flags: fabric.Notify | fabric.Signaled, ID: i, Len: 8, Local: fabric.Span{Key: local, Off: 8 * i}, Remote: fabric.Addr{Key: remote, Off: 8 * i}}
		if p.AB.Post([]fabric.Op{op}) != 1 {
			t.Fatal("the queue is full")
		}
	}
	for i := range uint64(receiveDepth) {
		if d := await(t, p.AB); d.ID != i || d.Err != nil {
			t.Fatalf("%+v", d)
		}
	}
	var none [1]fabric.Completion
	for i := uint64(receiveDepth); i < n; {
		if got := p.AB.Poll(none[:]); got == 1 {
			if none[0].ID != i || none[0].Err != nil {
				t.Fatalf("%+v", none[0])
			}
			i++
		}
		p.B.Arm() // looks, as a node does before it parks
		p.B.Disarm()
	}
	if got := far.Load64(8 * (n - 1)); got != n {
		t.Errorf("the last word is %d", got)
	}
}

// TestLongerThanTheDeviceMoves: a Write and a Read that take several requests each.
func TestLongerThanTheDeviceMoves(t *testing.T) {
	p := pair(t, Options{}, 0, anonymous)
	p.A.(*Endpoint).message = 100_000 // a device's own limit, 8 MiB and more, would take long
	const n = 1<<20 + 17
	near, far := anonymous(t, 2*n), anonymous(t, n)
	for i := range n {
		near.Bytes()[i] = byte(i * 7 >> 3)
	}
	local, remote := register(t, p.A, near, fabric.LocalOnly), register(t, p.B, far, allRights)
	p.AB.Post([]fabric.Op{
		{Kind: fabric.Write, Flags: fabric.Notify, Len: n, Local: fabric.Span{Key: local}, Remote: fabric.Addr{Key: remote}},
		{Kind: fabric.Read, Flags: fabric.Signaled, ID: 1, Len: n, Local: fabric.Span{Key: local, Off: n}, Remote: fabric.Addr{Key: remote}},
	})
	if d := await(t, p.AB); d.ID != 1 || d.Err != nil {
		t.Fatalf("%+v", d)
	}
	if !bytes.Equal(near.Bytes()[:n], far.Bytes()) || !bytes.Equal(near.Bytes()[:n], near.Bytes()[n:]) {
		t.Error("bytes differ")
	}
	p.A.(*Endpoint).message = 100
	p.AB.Post([]fabric.Op{{Kind: fabric.Write, Len: n, Local: fabric.Span{Key: local}, Remote: fabric.Addr{Key: remote}}})
	if d := await(t, p.AB); !errors.Is(d.Err, fabric.ErrOp) {
		t.Errorf("more requests than the queue has: %v", d.Err)
	}
}

// TestPostAndPollDoNotAllocate.
func TestPostAndPollDoNotAllocate(t *testing.T) {
	p := pair(t, Options{}, 0, anonymous)
	m := anonymous(t, 4096)
	local, remote := register(t, p.A, m, fabric.LocalOnly), register(t, p.B, anonymous(t, 4096), allRights)
	at, to := fabric.Span{Key: local}, fabric.Addr{Key: remote}
	batch := []fabric.Op{
		{Kind: fabric.Write, Len: 64, Local: at, Remote: to}, {Kind: fabric.Write, Flags: fabric.Inline, Len: 64, Local: at, Remote: to},
		{Kind: fabric.Write8, Flags: fabric.Notify, Remote: to}, {Kind: fabric.FetchAdd, Remote: to}, {Kind: fabric.Fence},
		{Kind: fabric.Flush, Flags: fabric.Signaled, A: fabric.Visible, B: fabric.Region, Remote: to},
	}
	receive, message := []fabric.Op{{Kind: fabric.Recv, Local: at, Len: 64}}, []fabric.Op{{Kind: fabric.Send, Local: at, Len: 64}}
	local2 := register(t, p.B, anonymous(t, 4096), fabric.LocalOnly)
	receive[0].Local.Key = local2
	var done [4]fabric.Completion
	if n := testing.AllocsPerRun(50, func() {
		p.BA.Post(receive)
		p.AB.Post(message)
		p.AB.Post(batch)
		for p.AB.Poll(done[:]) == 0 {
		}
		for p.BA.Poll(done[:]) == 0 {
		}
		if done[0].Err != nil {
			t.Fatal(done[0].Err)
		}
		if p.A.Arm() {
			p.A.Disarm()
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestCloseEndsBothQueuePairs: when Close returns, neither device has a queue pair any more that a packet could reach.
func TestCloseEndsBothQueuePairs(t *testing.T) {
	p := pair(t, Options{}, 0, anonymous)
	a, b := p.AB.(*conn), p.BA.(*conn)
	if !a.q.alive() || !b.q.alive() {
		t.Fatal("no queue pairs")
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.q.alive() {
		t.Error("the peer's is there")
	}
}

// TestCloseWhileParked: the owner that waits is woken, and finds nothing.
func TestCloseWhileParked(t *testing.T) {
	a, _ := places(t)
	for range 20 {
		e := endpoint(t, a, Options{}, 0)
		woken := make(chan time.Duration)
		parking := make(chan bool)
		go func() {
			start := time.Now()
			armed := e.Arm()
			close(parking)
			if armed {
				e.Wait(20 * time.Second)
			}
			e.Arm()
			e.Disarm()
			woken <- time.Since(start)
		}()
		<-parking
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if took := <-woken; took > 10*time.Second {
			t.Fatalf("woken after %v", took)
		}
	}
}
