package mirror_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/mirror"
	"whale/mirror/mirrortest"
	"whale/pmem"
)

// variant is a way to break a strategy.
type variant struct {
	name      string
	strategy  mirror.Strategy
	edit      func(op fabric.Op) []fabric.Op
	spoil     func(w **mirrortest.World) func(fabric.Conn) fabric.Conn
	spoilHere func(pmem.Memory) pmem.Memory
}

// only edits the operations that which chooses.
func only(which func(fabric.Op) bool, edit func(op *fabric.Op)) func(fabric.Op) []fabric.Op {
	return func(op fabric.Op) []fabric.Op {
		if which(op) {
			edit(&op)
		}
		return []fabric.Op{op}
	}
}

// without leaves operations out.
func without(which func(fabric.Op) bool) func(fabric.Op) []fabric.Op {
	return func(op fabric.Op) []fabric.Op {
		if which(op) {
			return nil
		}
		return []fabric.Op{op}
	}
}

func isOrderingFence(op fabric.Op) bool {
	return op.Kind == fabric.Fence && op.Flags&fabric.Signaled == 0
}
func isDurabilityFence(op fabric.Op) bool {
	return op.Kind == fabric.Fence && op.Flags&fabric.Signaled != 0
}
func isFlush(op fabric.Op) bool { return op.Kind == fabric.Flush }
func isRead(op fabric.Op) bool  { return op.Kind == fabric.Read }
func always(fabric.Op) bool     { return true }
func toVisible(op *fabric.Op)   { op.A = fabric.Visible }

// early makes an operation one that completes when the network card there has it.
func early(op *fabric.Op) { *op = fabric.Op{Kind: fabric.Fence, Flags: op.Flags, ID: op.ID} }

var variants = []variant{
	{name: "SM-RC, visible is counted as durable", strategy: mirror.RemoteCommit, edit: only(isFlush, toVisible)},
	{name: "SM-RC, an early completion is counted as durable", strategy: mirror.RemoteCommit, edit: only(isFlush, early)},
	{name: "SM-RC, a write's completion is counted as durable", strategy: mirror.RemoteCommit, edit: only(isFlush, func(op *fabric.Op) {
		*op = fabric.Op{Kind: fabric.Write, Flags: op.Flags, ID: op.ID, Remote: op.Remote, Local: fabric.Span{}}
	}), spoil: localKeys},
	{name: "SM-RC, half of the epoch is flushed", strategy: mirror.RemoteCommit, edit: only(isFlush, func(op *fabric.Op) {
		*op = fabric.Op{Kind: fabric.Flush, Flags: op.Flags, ID: op.ID, A: fabric.Durable, Remote: fabric.Addr{Key: op.Remote.Key, Off: mirror.HeadSize}, Len: 128}
	})},
	{name: "SM-OB, no fence between epochs", strategy: mirror.OrderedBuffering, edit: without(isOrderingFence)},
	{name: "SM-OB, a fence between epochs that orders visibility", strategy: mirror.OrderedBuffering, edit: only(isOrderingFence, toVisible)},
	{name: "SM-OB, no fence at the end", strategy: mirror.OrderedBuffering, edit: only(isDurabilityFence, toVisible)},
	{name: "SM-OB, writes that are not written through", strategy: mirror.OrderedBuffering, edit: only(always, func(op *fabric.Op) { op.Flags &^= fabric.WriteThrough })},
	{name: "SM-OB, two queue pairs", strategy: mirror.OrderedBuffering, spoil: twoQueuePairs},
	{name: "SM-DD, DDIO on", strategy: mirror.DDIODisabled, edit: only(always, func(op *fabric.Op) { op.Flags &^= fabric.NonTemporal })},
	{name: "SM-DD, no Read at the end", strategy: mirror.DDIODisabled, edit: only(isRead, early)},
	{name: "SM-DD, two queue pairs", strategy: mirror.DDIODisabled, spoil: twoQueuePairs},
	{name: "SM-OB, writes that fetch from the region", strategy: mirror.OrderedBuffering, spoil: fetchLive},
	{name: "SM-DD, writes that fetch from the region", strategy: mirror.DDIODisabled, spoil: fetchLive},
	{name: "none, no fence here", strategy: mirror.None, spoilHere: func(m pmem.Memory) pmem.Memory { return unfenced{m} }},
	{name: "SM-DD, no fence here", strategy: mirror.DDIODisabled, spoilHere: func(m pmem.Memory) pmem.Memory { return unfenced{m} }},
	{name: "none, no flush here", strategy: mirror.None, spoilHere: func(m pmem.Memory) pmem.Memory { return unflushed{m} }},
}

type unfenced struct{ pmem.Memory }

func (unfenced) Fence() {}

type unflushed struct{ pmem.Memory }

func (unflushed) Persist(off, n uint64) {}

// localKeys gives operations without local memory some.
func localKeys(w **mirrortest.World) func(fabric.Conn) fabric.Conn {
	return func(c fabric.Conn) fabric.Conn {
		key, _ := (*w).Net.Endpoint("P").Register((*w).Here, 0, 64, fabric.LocalOnly)
		return mirrortest.Edit(func(op fabric.Op) []fabric.Op {
			if op.Kind == fabric.Write && op.Local.Key == 0 {
				op.Local.Key = key
			}
			return []fabric.Op{op}
		})(c)
	}
}

// fetchLive has the network card fetch from the region itself, when it comes to it. (Under SM-RC that would do: nothing of a later
// epoch is stored before it has.)
func fetchLive(w **mirrortest.World) func(fabric.Conn) fabric.Conn {
	return func(c fabric.Conn) fabric.Conn {
		size := uint64(len((*w).Here.Bytes()))
		key, _ := (*w).Net.Endpoint("P").Register((*w).Here, 0, size, fabric.LocalOnly)
		return mirrortest.Edit(func(op fabric.Op) []fabric.Op {
			if op.Kind == fabric.Write {
				op.Local, op.Flags = fabric.Span{Key: key, Off: op.Remote.Off}, op.Flags&^fabric.Inline
			}
			return []fabric.Op{op}
		})(c)
	}
}

// twoQueuePairs sends every other write over a connection of its own.
func twoQueuePairs(w **mirrortest.World) func(fabric.Conn) fabric.Conn {
	return func(c fabric.Conn) fabric.Conn {
		second, _ := (*w).Net.Connect("P", "M1")
		count := 0
		return mirrortest.Edit(func(op fabric.Op) []fabric.Op {
			if op.Kind == fabric.Write || op.Kind == fabric.Write8 {
				if count++; count%2 == 0 && op.Remote.Off >= mirror.HeadSize && op.Flags&fabric.Signaled == 0 {
					second.Post([]fabric.Op{op})
					return nil
				}
			}
			return []fabric.Op{op}
		})(c)
	}
}

// lossOfPower runs random transactions of two threads and loses power at random points on every side. It returns the first
// thing that is wrong, and how many losses there were.
func lossOfPower(t *testing.T, seed uint64, s mirror.Strategy, v variant) (losses int, wrong error) {
	rng := rand.New(rand.NewPCG(seed, 5))
	net := simfab.Options{Relaxed: rng.IntN(4) > 0, Late: rng.IntN(2) == 0}
	if rng.IntN(4) == 0 {
		net.Inline = -1
	}
	var w *mirrortest.World
	o := mirrortest.Options{Net: net, Seed: seed, Mirrors: 1 + rng.IntN(2), Size: 1024, SpoilHere: v.spoilHere}
	if v.spoil != nil || v.edit != nil {
		o.Mirrors = 1
		armed := false
		o.Spoil = func(c fabric.Conn) fabric.Conn {
			if !armed { // the first connection fills the mirror: that is not what is broken
				armed = true
				return c
			}
			if v.spoil != nil {
				c = v.spoil(&w)(c)
			}
			if v.edit != nil {
				c = mirrortest.Edit(v.edit)(c)
			}
			return c
		}
	}
	w = mirrortest.New(t, o)
	r := w.Open(mirror.Options{Strategy: s, Threads: 2, Batch: 1 + rng.IntN(8)})
	// Each thread has words of its own, in lines that both use.
	threads := []*mirrortest.History{mirrortest.NewHistory(1), mirrortest.NewHistory(2)}
	often := 1 + rng.IntN(8)
	w.Point = func() {
		if wrong != nil || rng.IntN(often) > 0 {
			return
		}
		losses++
		judge := func(side string, m *pmem.Simulated) {
			for i, h := range threads {
				if err := h.Check(func(off uint64) uint64 { return m.Load64(mirror.HeadSize + off) }); err != nil && wrong == nil {
					wrong = fmt.Errorf("seed %d, thread %d, %s: %w", seed, i, side, err)
				}
			}
			if l, err := mirror.Inspect(m); err != nil || l.State.Condition != mirror.Opened {
				wrong = fmt.Errorf("seed %d, %s: the label is %v, %w", seed, side, l, err)
			}
		}
		judge("here", w.Here.Crash(w.Rng))
		if s != mirror.None {
			for i := range w.There {
				judge(mirrortest.Name(i), w.There[i].Crash(w.Rng))
			}
		}
	}
	place := func(thread int) uint64 { return uint64(64*rng.IntN(3) + 32*thread + 8*rng.IntN(4)) }
	for range 3 {
		for _, h := range threads {
			tx, err := r.Begin()
			if err != nil {
				return losses, err
			}
			h.Begin(tx)
		}
		for range 1 + rng.IntN(12) {
			i := rng.IntN(2)
			switch h := threads[i]; rng.IntN(3) {
			case 0:
				h.Barrier()
			case 1:
				h.Write(place(i), 1, true)
			case 2:
				off := place(i)
				h.Write(off, 1+rng.IntN(4-int(off%32/8)), false)
			}
		}
		for _, h := range threads {
			if err := h.Commit(); err != nil {
				return losses, err
			}
			w.Point()
		}
	}
	return losses, wrong
}

// TestLossOfPower: power is lost at thousands of random points, and no side is ever left with anything but what the epochs allow and
// Commit has promised.
func TestLossOfPower(t *testing.T) {
	for _, s := range mirror.Strategies {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			losses := 0
			for seed := range uint64(130) {
				n, wrong := lossOfPower(t, seed, s, variant{})
				if losses += n; wrong != nil {
					t.Fatal(wrong)
				}
			}
			if losses < 2000 {
				t.Errorf("only %d losses of power", losses)
			}
			t.Logf("%d losses of power", losses)
		})
	}
}

// TestBrokenVariantsAreFound: what TestLossOfPower looks for can be wrong.
func TestBrokenVariantsAreFound(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			losses := 0
			for seed := range uint64(300) {
				n, wrong := lossOfPower(t, seed, v.strategy, v)
				if losses += n; wrong != nil {
					t.Logf("found after %d losses of power: %v", losses, wrong)
					return
				}
			}
			t.Errorf("not found by %d losses of power", losses)
		})
	}
}
