package simfab_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/pmem"
)

const every = fabric.RemoteRead | fabric.RemoteWrite | fabric.RemoteAtomic | fabric.RemoteFlush

// world is a primary P and backups B1, B2 with a region each, a connection from P to each backup, and its log.
type world struct {
	*testing.T
	*simfab.Network
	src  *pmem.HeapMemory
	key  fabric.Key // of src
	conn map[string]fabric.Conn
	back map[string]fabric.Conn
	mem  map[string]*pmem.Simulated
	keys map[string]fabric.Key
	log  []string
}

func newWorld(t *testing.T, opts simfab.Options) *world {
	w := &world{T: t, src: pmem.Heap(4096), conn: map[string]fabric.Conn{}, back: map[string]fabric.Conn{}, mem: map[string]*pmem.Simulated{}, keys: map[string]fabric.Key{}}
	opts.Log = func(line string) { w.log = append(w.log, line) }
	w.Network = simfab.New(opts)
	w.key = w.register("P", w.src, fabric.LocalOnly, "source")
	for i := range w.src.Bytes() {
		w.src.Bytes()[i] = byte(i%251 + 1)
	}
	for _, b := range []string{"B1", "B2"} {
		w.mem[b] = pmem.Simulate(4096, pmem.ADR, 1)
		w.keys[b] = w.register(b, w.mem[b], every, "ring")
		w.conn[b], w.back[b] = w.Connect("P", b)
	}
	return w
}

func (w *world) register(name string, m pmem.Memory, r fabric.Rights, label string) fabric.Key {
	w.Helper()
	key, err := w.Endpoint(name).Register(m, 0, uint64(len(m.Bytes())), r)
	if err != nil {
		w.Fatal(err)
	}
	w.Label(key, label)
	return key
}

// write is a Write of n bytes to the same offset at b.
func (w *world) write(b string, off, n uint64, f fabric.Flags) fabric.Op {
	return fabric.Op{Kind: fabric.Write, Flags: f, ID: off, Local: fabric.Span{Key: w.key, Off: off}, Remote: fabric.Addr{Key: w.keys[b], Off: off}, Len: n}
}

func (w *world) op(b string, kind fabric.Kind, off uint64, f fabric.Flags) fabric.Op {
	o := w.write(b, off, 8, f)
	o.Kind, o.A = kind, 1
	return o
}

func (w *world) flush(b string, placement uint64) fabric.Op {
	return fabric.Op{Kind: fabric.Flush, Flags: fabric.Signaled, ID: 99, Remote: fabric.Addr{Key: w.keys[b]}, A: placement, B: fabric.Region}
}

func (w *world) post(b string, ops ...fabric.Op) {
	w.Helper()
	if n := w.conn[b].Post(ops); n != len(ops) {
		w.Fatalf("Post took %d of %d", n, len(ops))
	}
}

func (w *world) completions(c fabric.Conn) []fabric.Completion {
	var space [100]fabric.Completion
	return slices.Clone(space[:c.Poll(space[:])])
}

// polled is the completions of P's connection to b as "Write 0 <nil>".
func (w *world) polled(b string) string { return show(w.completions(w.conn[b])) }

func show(cs []fabric.Completion) string {
	var out []string
	for _, c := range cs {
		err := "ok"
		for _, e := range []error{fabric.ErrAccess, fabric.ErrLocal, fabric.ErrFlushed, fabric.ErrBroken, fabric.ErrTooLong} {
			if errors.Is(c.Err, e) {
				err = strings.TrimPrefix(e.Error(), "fabric: ")
			}
		}
		out = append(out, fmt.Sprintf("%d %s", c.ID, err))
	}
	return strings.Join(out, ", ")
}

func (w *world) want(what, got, want string) {
	w.Helper()
	if got != want {
		w.Fatalf("%s: %q, want %q", what, got, want)
	}
}

// arrived: the bytes of a write to [off, off+n) are visible at b.
func (w *world) arrived(b string, off, n uint64) bool {
	return bytes.Equal(w.mem[b].Bytes()[off:off+n], w.src.Bytes()[off:off+n])
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// TestEarly is the visibility trap: a completion is neither visibility nor durability; a Flush is what it says.
func TestEarly(t *testing.T) {
	w := newWorld(t, simfab.Options{})
	w.post("B1", w.write("B1", 0, 64, fabric.Signaled))
	w.want("completions of a Write that has not landed", w.polled("B1"), "0 ok")
	if w.arrived("B1", 0, 64) {
		t.Fatal("a Write landed by itself")
	}
	w.post("B1", w.flush("B1", fabric.Visible))
	w.want("completions of a Flush that has not landed", w.polled("B1"), "")
	for _, e := range w.Pending() {
		w.must(w.Deliver(e))
	}
	w.want("completions of a Flush", w.polled("B1"), "99 ok")
	if !w.arrived("B1", 0, 64) {
		t.Fatal("a Flush completed before the Write in front of it was visible")
	}
	durable := func() bool { return w.mem["B1"].CrashDurable().Bytes()[0] == w.src.Bytes()[0] }
	if durable() {
		t.Fatal("a visible Flush made durable")
	}
	w.post("B1", w.flush("B1", fabric.Durable))
	w.DeliverAll()
	if !durable() {
		t.Fatal("a durable Flush did not make durable")
	}
}

// TestFlushRange: a durable Flush of a range persists that range.
func TestFlushRange(t *testing.T) {
	w := newWorld(t, simfab.Options{Auto: true})
	f := w.flush("B1", fabric.Durable)
	f.B, f.Remote.Off, f.Len = fabric.Range, 1024, 100
	w.post("B1", w.write("B1", 0, 4096, 0), f)
	left := w.mem["B1"].CrashDurable().Bytes()
	if left[1024] == 0 || left[1123] == 0 || left[0] != 0 || left[2048] != 0 {
		t.Fatal("a durable Flush of a range persisted something else")
	}
}

// TestOvertaking: what may land before what on one connection.
func TestOvertaking(t *testing.T) {
	const n = fabric.Notify
	w0 := newWorld(t, simfab.Options{})
	plain, far := w0.write("B1", 0, 8, 0), w0.write("B1", 64, 8, 0)
	ops := map[string]fabric.Op{
		"write": plain, "far write": far, "same word": w0.write("B1", 4, 8, 0),
		"notify": w0.write("B1", 128, 8, n), "fenced": w0.write("B1", 192, 8, fabric.Fenced), "bad write": w0.write("B1", 4096, 8, 0),
		"read": w0.op("B1", fabric.Read, 2048, 0), "write8": w0.op("B1", fabric.Write8, 2048, 0), "fetchadd": w0.op("B1", fabric.FetchAdd, 2048, 0),
		"flush": w0.flush("B1", fabric.Visible), "fence": {Kind: fabric.Fence},
	}
	always := map[string]bool{ // first, second: in both modes
		"read, far write": true, "read, write": true, "read, same word": true,
		"flush, write": true, "flush, far write": true, "flush, same word": true, "flush, fenced": true,
	}
	relaxed := map[string]bool{
		"write, far write": true, "far write, write": true, "far write, same word": true, "write, fenced": true, "far write, fenced": true, "same word, fenced": true,
		"same word, far write": true, "fenced, write": true, "fenced, far write": true, "fenced, same word": true,
	}
	for _, mode := range []bool{false, true} {
		for first, a := range ops {
			for second, b := range ops {
				if first == second || first == "bad write" {
					continue // what fails early leaves nothing to overtake
				}
				w := newWorld(t, simfab.Options{Relaxed: mode, Late: true})
				w.post("B1", a, b)
				pair := first + ", " + second
				err := w.Deliver(w.Pending()[1])
				if may := always[pair] || mode && relaxed[pair]; may != (err == nil) {
					t.Errorf("relaxed %v: %s: overtaking: %v, want it allowed: %v", mode, pair, err, may)
				}
				w.must(w.Deliver(w.Pending()[0]))
			}
		}
	}
}

// TestOvertakenCompletesInOrder: landing out of order does not change the order of completions.
func TestOvertakenCompletesInOrder(t *testing.T) {
	w := newWorld(t, simfab.Options{Late: true})
	w.post("B1", w.flush("B1", fabric.Visible), w.write("B1", 0, 8, fabric.Signaled))
	w.must(w.Deliver(w.Pending()[1]))
	if !w.arrived("B1", 0, 8) {
		t.Fatal("a Write did not land")
	}
	w.want("completions", w.polled("B1"), "")
	w.DeliverAll()
	w.want("completions", w.polled("B1"), "99 ok, 0 ok")
}

// TestWords: a Write is not atomic, and its last words land with it.
func TestWords(t *testing.T) {
	w := newWorld(t, simfab.Options{})
	w.post("B1", w.write("B1", 4, 24, 0)) // touches four words, two of them in part
	e := w.Pending()[0]
	w.must(w.DeliverWords(e, 3, 1))
	got := w.mem["B1"].Bytes()
	if !bytes.Equal(got[24:28], w.src.Bytes()[24:28]) || !bytes.Equal(got[:24], make([]byte, 24)) || got[28] != 0 {
		t.Fatalf("the last word alone: %v", got[:32])
	}
	got[24] = 77 // stored by the peer's CPU
	w.must(w.Deliver(e))
	if !w.arrived("B1", 4, 20) || got[24] != 77 || got[3] != 0 || got[28] != 0 {
		t.Fatalf("the rest: %v", got[:32])
	}
	for _, bad := range [][2]int{{-1, 1}, {0, 5}, {5, 0}, {3, 2}, {1, -1}} {
		w.post("B1", w.write("B1", 4, 24, 0))
		if w.DeliverWords(w.Pending()[0], bad[0], bad[1]) == nil {
			t.Errorf("words %v of 4 landed", bad)
		}
		w.DeliverAll()
	}
}

// TestDeliverOne: "the slot to B1 only".
func TestDeliverOne(t *testing.T) {
	w := newWorld(t, simfab.Options{})
	for _, b := range []string{"B1", "B2"} {
		w.post(b, w.write(b, 1024, 256, 0), w.write(b, 128, 64, 0), w.flush(b, fabric.Visible))
	}
	var got []string
	for _, e := range w.Pending() {
		got = append(got, e.String())
	}
	w.want("pending", strings.Join(got, "; "), "1 P->B1 write 256B @ring+1024; 2 P->B1 write 64B @ring+128; 3 P->B1 flush visible @ring; "+
		"4 P->B2 write 256B @ring+1024; 5 P->B2 write 64B @ring+128; 6 P->B2 flush visible @ring")
	slot := w.Pending(simfab.To("B1"), simfab.On(w.keys["B1"], 128, 64), simfab.Is(fabric.Write))
	if len(slot) != 1 {
		t.Fatalf("chosen: %v", slot)
	}
	if err := w.Deliver(slot[0]); err == nil || !strings.Contains(err.Error(), "must not overtake 1 P->B1") {
		t.Fatalf("delivered ahead of what is before it: %v", err)
	}
	w.must(w.DeliverThrough(slot[0]))
	if !w.arrived("B1", 128, 64) || !w.arrived("B1", 1024, 256) || w.arrived("B2", 128, 64) || len(w.Pending(simfab.To("B1"))) != 1 {
		t.Fatal("not what was asked for landed")
	}
	if err := w.Deliver(slot[0]); err == nil || !strings.Contains(err.Error(), "landed already") {
		t.Fatalf("delivered twice: %v", err)
	}
	if n := w.DeliverAll(simfab.To("B2"), simfab.Is(fabric.Flush)); n != 0 {
		t.Fatalf("a Flush landed before what it flushes")
	}
	if n := w.DeliverAll(simfab.From("P")); n != 4 {
		t.Fatalf("%d landed, want 4", n)
	}
}

func TestHold(t *testing.T) {
	w := newWorld(t, simfab.Options{})
	w.Hold("P", "B1")
	w.post("B1", w.write("B1", 0, 8, fabric.Signaled))
	w.post("B2", w.write("B2", 0, 8, fabric.Signaled))
	w.want("completions on a way that is held", w.polled("B1"), "")
	w.want("completions on another", w.polled("B2"), "0 ok")
	if n := w.DeliverAll(); n != 1 || w.Deliver(w.Pending()[0]) == nil {
		t.Fatal("something landed over a way that is held")
	}
	w.Release("P", "B1")
	w.want("completions after the release", w.polled("B1"), "0 ok")
	if w.DeliverAll() != 1 || !w.arrived("B1", 0, 8) {
		t.Fatal("nothing landed after the release")
	}
	// The hold is for connections to come, too.
	w.Hold("P", "B1")
	w.conn["B1"], w.back["B1"] = w.Connect("P", "B1")
	w.post("B1", w.write("B1", 256, 8, fabric.Signaled))
	w.want("completions on a new connection", w.polled("B1"), "")
	w.Release("P", "B1")
	w.want("completions after the release", w.polled("B1"), "256 ok")
	w.DeliverAll()
	// A crash behind a held way is not noticed, and what was posted does not end.
	w.Hold("P", "B1")
	w.post("B1", w.write("B1", 8, 8, 0))
	w.Crash("B1")
	w.post("B1", w.write("B1", 16, 8, 0))
	w.want("completions of operations to a crashed peer behind a held way", w.polled("B1"), "")
	w.Endpoint("P").Arm()
	w.Release("P", "B1")
	w.want("completions at the release", w.polled("B1"), "8 connection lost, 16 flushed after an error")
	if !w.Endpoint("P").Rung() {
		t.Fatal("nobody rang for the loss")
	}
	if w.DeliverAll() != 0 {
		t.Fatal("something landed on a lost connection")
	}
}

// TestCrash: what had not landed never does, keys and connections are gone, and a new incarnation knows nothing of them.
func TestCrash(t *testing.T) {
	w := newWorld(t, simfab.Options{})
	w.post("B1", w.write("B1", 0, 8, fabric.Signaled), w.write("B1", 8, 8, fabric.Signaled), w.flush("B1", fabric.Visible))
	w.must(w.Deliver(w.Pending()[0])) // by choice
	old := w.Endpoint("B1")
	w.Crash("B1")
	w.want("completions", w.polled("B1"), "0 ok, 8 ok, 99 connection lost")
	if !w.arrived("B1", 0, 8) || w.DeliverAll() != 0 || w.arrived("B1", 8, 8) {
		t.Fatal("what landed is not what was delivered before the crash")
	}
	back := w.Endpoint("B1")
	if back == old {
		t.Fatal("the old incarnation came back")
	}
	c, _ := w.Connect("P", "B1")
	c.Post([]fabric.Op{w.write("B1", 0, 8, 0)})
	w.want("a key of the old incarnation", show(w.completions(c)), "0 remote access refused")
	if key := w.register("B1", w.mem["B1"], every, "ring"); key == w.keys["B1"] {
		t.Fatal("the new incarnation gave an old key")
	}
	// What the crashed endpoint itself had posted is dropped, too.
	w.post("B2", w.write("B2", 0, 8, 0))
	w.Crash("P")
	if w.DeliverAll() != 0 || w.arrived("B2", 0, 8) {
		t.Fatal("an operation outlived its poster")
	}
}

func TestBreak(t *testing.T) {
	w := newWorld(t, simfab.Options{})
	w.back["B1"].Post([]fabric.Op{{Kind: fabric.Recv, ID: 5, Local: fabric.Span{Key: w.keys["B1"]}, Len: 8}})
	w.post("B1", w.write("B1", 0, 8, fabric.Signaled), w.flush("B1", fabric.Visible))
	w.post("B2", w.write("B2", 0, 8, 0))
	w.Break("P", "B1")
	w.want("completions", w.polled("B1"), "0 ok, 99 connection lost")
	w.want("receives at the peer", show(w.completions(w.back["B1"])), "5 connection lost")
	if w.DeliverAll() != 1 || !w.arrived("B2", 0, 8) {
		t.Fatal("another connection suffered")
	}
	w.conn["B1"], _ = w.Connect("P", "B1")
	w.post("B1", w.write("B1", 0, 8, 0))
	if w.DeliverAll() != 1 || !w.arrived("B1", 0, 8) {
		t.Fatal("a new connection does not work")
	}
}

// TestRevokeAfterEarlyCompletion: the Write has completed and can land no more, so the Flush behind it must fail.
func TestRevokeAfterEarlyCompletion(t *testing.T) {
	w := newWorld(t, simfab.Options{})
	other := w.register("B1", w.mem["B1"], every, "other")
	w.post("B1", w.write("B1", 0, 8, fabric.Signaled))
	w.want("completions", w.polled("B1"), "0 ok")
	w.must(w.Endpoint("B1").Revoke(w.keys["B1"]))
	f := w.flush("B1", fabric.Visible)
	f.Remote.Key = other
	w.post("B1", f)
	w.DeliverAll()
	if w.arrived("B1", 0, 8) {
		t.Fatal("a Write landed under a revoked key")
	}
	w.want("the Flush behind a Write that could not land", w.polled("B1"), "99 remote access refused")
}

// TestLate: local memory is read when the Write completes, so a caller who changes it before is found out.
func TestLate(t *testing.T) {
	w := newWorld(t, simfab.Options{Late: true})
	w.post("B1", w.write("B1", 0, 8, fabric.Signaled), w.write("B1", 8, 8, fabric.Signaled))
	w.want("completions", w.polled("B1"), "")
	if err := w.Complete(w.Pending()[1]); err == nil {
		t.Fatal("completed out of order")
	}
	w.src.Bytes()[0] = 200
	w.must(w.Complete(w.Pending()[0]))
	w.want("completions", w.polled("B1"), "0 ok")
	w.src.Bytes()[1] = 200
	w.DeliverAll()
	if got := w.mem["B1"].Bytes(); got[0] != 200 || got[1] == 200 {
		t.Fatal("local memory was not read at the completion")
	}
	w.post("B1", w.flush("B1", fabric.Visible))
	if w.Complete(w.Pending()[0]) == nil {
		t.Fatal("a Flush completed early")
	}
}

func TestRings(t *testing.T) {
	w := newWorld(t, simfab.Options{})
	b := w.Endpoint("B1")
	if !b.Arm() || !b.Armed() || b.Rung() {
		t.Fatal("a quiet endpoint cannot be armed")
	}
	w.post("B1", w.write("B1", 0, 8, 0), w.write("B1", 8, 8, fabric.Notify))
	w.must(w.Deliver(w.Pending()[0]))
	if b.Rung() {
		t.Fatal("rung before the Write with Notify landed")
	}
	w.DeliverAll()
	if !b.Rung() || b.Arm() || b.Armed() || b.Rung() || !b.Arm() {
		t.Fatal("a ring did not make Arm false once")
	}
	b.Wait(0)
	if b.Armed() || b.Rung() || b.Doorbell() != -1 {
		t.Fatal("Wait left something")
	}
}

func TestDialErrors(t *testing.T) {
	w := newWorld(t, simfab.Options{})
	ctx := context.Background()
	p, b := w.Endpoint("P"), w.Endpoint("B1")
	want := func(text string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want %q in it", err, text)
		}
	}
	_, _, err := p.Dial(ctx, "B1", nil)
	want("does not listen", err)
	b.Listen(func([]byte) ([]byte, error) { return nil, nil })
	w.Hold("B1", "P")
	_, _, err = p.Dial(ctx, "B1", nil)
	want("held", err)
	w.Release("B1", "P")
	done, cancel := context.WithCancel(ctx)
	cancel()
	_, _, err = p.Dial(done, "B1", nil)
	want("canceled", err)
	_, err = b.Accept(ctx, nil)
	want("nobody has dialed", err)
	if _, _, err = p.Dial(ctx, "B1", nil); err != nil {
		t.Fatal(err)
	}
	_, err = b.Accept(ctx, func([]byte) ([]byte, error) { return nil, nil })
	want("to Listen", err)
	if c, err := b.Accept(ctx, nil); c == nil || err != nil {
		t.Fatal(err)
	}
	_, err = b.Register(w.mem["B1"], 4, 8, every)
	want("multiple of 8", err)
}

// TestDeterminism: the same seed gives the same run, another one another run.
func TestDeterminism(t *testing.T) {
	run := func(seed uint64) string {
		w := newWorld(t, simfab.Options{Relaxed: true, Late: true})
		rng := rand.New(rand.NewPCG(seed, 0))
		for i := range uint64(200) {
			b := []string{"B1", "B2"}[rng.IntN(2)]
			w.post(b, w.write(b, i*8, 64, fabric.Flags(rng.IntN(2))*fabric.Notify))
			if rng.IntN(5) == 0 {
				w.post(b, w.flush(b, fabric.Durable))
			}
			for range rng.IntN(4) {
				w.Step(rng)
			}
			w.completions(w.conn[b])
		}
		for w.Step(rng) {
		}
		if len(w.Pending()) > 0 {
			t.Fatalf("Step gave up before %v", w.Pending()[0])
		}
		return strings.Join(w.log, "\n")
	}
	if run(1) != run(1) {
		t.Error("the same seed gave two different runs")
	}
	if run(1) == run(2) {
		t.Error("two seeds gave the same run")
	}
}

// TestStepReachesEveryOrder: Step takes every order that is allowed, and no other.
func TestStepReachesEveryOrder(t *testing.T) {
	for _, mode := range []struct {
		relaxed bool
		orders  int
	}{{false, 1}, {true, 6}} {
		seen := map[string]bool{}
		for seed := range uint64(200) {
			w := newWorld(t, simfab.Options{Relaxed: mode.relaxed})
			w.post("B1", w.write("B1", 0, 8, 0), w.write("B1", 64, 8, 0), w.write("B1", 128, 8, 0), w.op("B1", fabric.Write8, 256, 0))
			rng := rand.New(rand.NewPCG(seed, 0))
			for w.Step(rng) {
			}
			order := ""
			for _, line := range w.log {
				if rest, ok := strings.CutPrefix(line, "land "); ok {
					order += rest[:1]
				}
			}
			if !strings.HasSuffix(order, "4") {
				t.Fatalf("Write8 landed before what is in front of it: %s", order)
			}
			seen[order] = true
		}
		if len(seen) != mode.orders {
			t.Errorf("relaxed %v: orders %v, want %d", mode.relaxed, seen, mode.orders)
		}
	}
}

// TestStepFindsWhatIsLeft: Step is false only when nothing at all can happen.
func TestStepFindsWhatIsLeft(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		w := newWorld(t, simfab.Options{Late: true})
		w.post("B1", w.write("B1", 0, 8, 0))
		w.post("B2", w.write("B2", 0, 8, 0))
		w.Hold("P", "B1")
		for w.Step(rng) {
		}
		if !w.arrived("B2", 0, 8) || w.arrived("B1", 0, 8) {
			t.Fatal("a held way kept Step from another, or was no obstacle")
		}
		// A message without a receive cannot land, but it can complete.
		w.post("B2", fabric.Op{Kind: fabric.Send, Flags: fabric.Signaled, ID: 3, Local: fabric.Span{Key: w.key}, Len: 8})
		for w.Step(rng) {
		}
		w.want("completions", w.polled("B2"), "3 ok")
	}
}

// TestOnPost: a driver with a clock hears of every operation, and delivers it when its time has come.
func TestOnPost(t *testing.T) {
	var arriving []simfab.Event
	w := newWorld(t, simfab.Options{OnPost: func(e simfab.Event) { arriving = append(arriving, e) }})
	w.post("B1", w.write("B1", 0, 64, fabric.Signaled), w.flush("B1", fabric.Visible))
	w.post("B2", w.write("B2", 0, 64, 0))
	if len(arriving) != 3 || !arriving[0].Completed || arriving[1].Completed || arriving[2].To != "B2" {
		t.Fatalf("heard of %v", arriving)
	}
	for _, i := range []int{2, 0, 1} {
		w.must(w.Deliver(arriving[i]))
	}
	w.want("completions", w.polled("B1"), "0 ok, 99 ok")
}

// TestAuto: what waits for a receive lands when it is posted, and all else at once.
func TestAuto(t *testing.T) {
	w := newWorld(t, simfab.Options{})
	send := fabric.Op{Kind: fabric.Send, ID: 1, Local: fabric.Span{Key: w.key}, Len: 16}
	w.post("B1", send, w.write("B1", 64, 8, 0))
	w.Auto(true)
	if len(w.Pending()) != 2 {
		t.Fatal("a message landed without a receive")
	}
	w.back["B1"].Post([]fabric.Op{{Kind: fabric.Recv, ID: 7, Local: fabric.Span{Key: w.keys["B1"]}, Len: 16}})
	w.want("received", show(w.completions(w.back["B1"])), "7 ok")
	if !w.arrived("B1", 0, 16) || !w.arrived("B1", 64, 8) || len(w.Pending()) != 0 {
		t.Fatal("not all landed")
	}
}

// TestAcked: with Acked nothing completes by itself, and what has landed completes when told to, in post order.
func TestAcked(t *testing.T) {
	var posted []simfab.Event
	n, post, _ := writes(t, simfab.Options{Acked: true, Late: true, OnPost: func(e simfab.Event) { posted = append(posted, e) }})

	post()
	if len(posted) != 3 {
		t.Fatalf("%d operations were heard of", len(posted))
	}
	if err := n.Complete(posted[2]); err == nil {
		t.Error("a Flush that has not landed was completed")
	}
	if n.DeliverAll() != 3 || !n.Landed(posted[2]) {
		t.Fatal("not everything landed")
	}
	if err := n.Complete(posted[2]); err == nil {
		t.Error("a Flush was completed ahead of what was posted before it")
	}
	for i, e := range posted {
		if err := n.Complete(e); err != nil {
			t.Errorf("operation %d: %v", i, err)
		}
	}
	if err := n.Complete(posted[2]); err == nil {
		t.Error("a Flush was completed twice")
	}
}
