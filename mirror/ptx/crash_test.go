package ptx_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/mirror"
	"whale/mirror/mirrortest"
	"whale/mirror/ptx"
	"whale/pmem"
)

// shelf is a program on a pool: its root is a row of places of blocks, and each block holds bytes that its first word tells. A
// transaction replaces, adds and removes some.
type shelf struct {
	pool   *ptx.Pool
	blocks [slots]content // by slot
}

const slots = 6

type content struct {
	at   uint64 // 0: none
	seed byte
	n    int
}

func (c content) bytes() []byte {
	b := bytes.Repeat([]byte{c.seed}, c.n)
	b[0] = byte(c.n)
	return b
}

// change does something random in a transaction. It returns what the shelf is when that has committed.
func (s *shelf) change(tx *ptx.Tx, rng *rand.Rand) (next [slots]content, err error) {
	next = s.blocks
	for range 1 + rng.IntN(3) {
		i := rng.IntN(slots)
		slot := s.pool.Root() + 8*uint64(i)
		switch c := &next[i]; {
		case c.at == 0:
			*c = content{n: []int{20, 60, 200}[rng.IntN(3)], seed: byte(rng.IntN(256))}
			if c.at, err = tx.Alloc(uint64(c.n)); err != nil {
				return next, err
			}
			tx.Write(c.at, c.bytes())
			tx.Store64(slot, c.at)
		case rng.IntN(2) == 0:
			if err := tx.Free(c.at); err != nil {
				return next, err
			}
			tx.Store64(slot, 0)
			*c = content{}
		default: // in several pieces, some of words that were written before
			c.seed = byte(rng.IntN(256))
			b := c.bytes()
			cut := 1 + rng.IntN(len(b)-1)
			if rng.IntN(2) == 0 {
				tx.Add(c.at, uint64(c.n))
			}
			tx.Write(c.at+uint64(cut), b[cut:])
			tx.Write(c.at, b[:cut])
		}
	}
	return next, nil
}

// holds says whether a pool is one of the shelves, and why not.
func holds(pool *ptx.Pool, one ...[slots]content) error {
	b := pool.Region().Bytes()
	var why error
next:
	for _, want := range one {
		allocated := 0
		for i, c := range want {
			at := pool.Region().Load64(pool.Root() + 8*uint64(i))
			if at != c.at {
				why = fmt.Errorf("slot %d has the place %d, want %d", i, at, c.at)
				continue next
			}
			if c.at == 0 {
				continue
			}
			allocated++
			if got := b[at : at+uint64(c.n)]; !bytes.Equal(got, c.bytes()) {
				why = fmt.Errorf("slot %d holds %x, want %x", i, got, c.bytes())
				continue next
			}
		}
		for at := range pool.Blocks() {
			if allocated--; allocated < 0 {
				return fmt.Errorf("more blocks are allocated than are used, the one at %d for example", at)
			}
		}
		if allocated > 0 {
			return fmt.Errorf("%d blocks are used and not allocated", allocated)
		}
		return nil
	}
	return why
}

// interrupt runs random transactions, some of which are aborted, and recovers what losses of power on each side leave, at random
// points. Everything that has committed must be there, and the transaction under way as a whole or not at all.
func interrupt(t *testing.T, seed uint64, log ptx.Log, s mirror.Strategy, edit func(fabric.Op) []fabric.Op, unfenced bool) (losses int, wrong error) {
	rng := rand.New(rand.NewPCG(seed, 9))
	o := mirrortest.Options{Net: simfab.Options{Relaxed: true, Late: rng.IntN(2) == 0}, Seed: seed, Size: 64 << 10}
	armed := false // what is broken is so once the pool has been made
	o.Spoil = mirrortest.Edit(func(op fabric.Op) []fabric.Op {
		if armed && edit != nil {
			return edit(op)
		}
		return []fabric.Op{op}
	})
	if unfenced {
		o.SpoilHere = func(m pmem.Memory) pmem.Memory { return &forgetful{m, &armed} }
	}
	w := mirrortest.New(t, o)
	pool, err := ptx.Open(w.Open(mirror.Options{Strategy: s, Threads: 2}), ptx.Options{Log: log, Lanes: 2, LogSize: 2048, Root: 8 * slots})
	if err != nil {
		t.Fatal(err)
	}
	w.Settle()
	armed = true
	sh := shelf{pool: pool}
	next := sh.blocks
	often := 1 + rng.IntN(40)
	w.Point = func() {
		if wrong != nil || rng.IntN(often) > 0 {
			return
		}
		sides := map[string]*pmem.Simulated{"here": w.Here}
		if s != mirror.None {
			sides["there"] = w.There[0]
		}
		for side, m := range sides {
			losses++
			left := m.Crash(w.Rng)
			for round := range 2 { // recovery, too, may be interrupted
				p, err := ptx.Open(mirrortest.Alone(t, left, 2), ptx.Options{})
				if err == nil {
					err = holds(p, sh.blocks, next)
				}
				if err != nil && wrong == nil {
					wrong = fmt.Errorf("seed %d, %s, round %d: %w", seed, side, round, err)
				}
				left = m.Crash(w.Rng)
				if wrong == nil {
					if left, err = interruptRecovery(t, left, w.Rng); err != nil {
						wrong = fmt.Errorf("seed %d, %s, a recovery that is interrupted: %w", seed, side, err)
					}
				}
			}
		}
	}
	for range 6 {
		tx, err := pool.Begin()
		if err != nil {
			return losses, err
		}
		if next, err = sh.change(tx, rng); err != nil {
			return losses, err
		}
		if rng.IntN(4) == 0 {
			next = sh.blocks
			err = tx.Abort()
		} else {
			err = tx.Commit()
		}
		if err != nil {
			return losses, err
		}
		sh.blocks = next
		w.Point()
		if err := holds(pool, sh.blocks); err != nil && wrong == nil {
			wrong = fmt.Errorf("seed %d, without a crash: %w", seed, err)
		}
	}
	return losses, wrong
}

// interruptRecovery recovers a memory and loses power again meanwhile.
func interruptRecovery(t *testing.T, m *pmem.Simulated, rng *rand.Rand) (*pmem.Simulated, error) {
	w := mirrortest.New(t, mirrortest.Options{Size: 64 << 10})
	w.Here = m
	var left *pmem.Simulated
	stop := rng.IntN(60)
	w.Point = func() {
		if stop--; stop == 0 {
			left = m.Crash(rng)
		}
	}
	r := w.Open(mirror.Options{Threads: 2})
	_, err := ptx.Open(r, ptx.Options{})
	if left == nil {
		left = m.Crash(rng)
	}
	return left, err
}

// TestInterrupted: all or nothing of every transaction, under every strategy.
func TestInterrupted(t *testing.T) {
	for _, log := range logs {
		for _, s := range mirror.Strategies {
			t.Run(fmt.Sprintf("%v, %v", log, s), func(t *testing.T) {
				losses := 0
				for seed := range uint64(8) {
					n, wrong := interrupt(t, seed, log, s, nil, false)
					if losses += n; wrong != nil {
						t.Fatal(wrong)
					}
				}
				t.Logf("%d losses of power", losses)
			})
		}
	}
}

// forgetful is a memory that forgets to fence once it is armed.
type forgetful struct {
	pmem.Memory
	armed *bool
}

func (f *forgetful) Fence() {
	if !*f.armed {
		f.Memory.Fence()
	}
}

// brokenOnes are ways to break what a pool rests on.
var brokenOnes = []struct {
	name     string
	strategy mirror.Strategy
	edit     func(op fabric.Op) []fabric.Op
	unfenced bool // the primary's memory
	early    bool // threads do not wait for each other's Commit
}{
	{name: "no fence here", strategy: mirror.None, unfenced: true},
	{name: "SM-OB without its fences", strategy: mirror.OrderedBuffering, edit: func(op fabric.Op) []fabric.Op {
		if op.Kind == fabric.Fence && op.Flags == 0 {
			return nil
		}
		return []fabric.Op{op}
	}},
	{name: "SM-DD, DDIO on", strategy: mirror.DDIODisabled, edit: func(op fabric.Op) []fabric.Op {
		op.Flags &^= fabric.NonTemporal
		return []fabric.Op{op}
	}},
	{name: "SM-RC, an early completion is counted as durable", strategy: mirror.RemoteCommit, edit: func(op fabric.Op) []fabric.Op {
		if op.Kind == fabric.Flush {
			op = fabric.Op{Kind: fabric.Fence, Flags: op.Flags, ID: op.ID}
		}
		return []fabric.Op{op}
	}},
	{name: "SM-OB, threads that do not wait for each other's Commit", strategy: mirror.OrderedBuffering, early: true},
}

// TestInterruptedFinds: without the order of epochs, transactions are not atomic, and the test says so.
func TestInterruptedFinds(t *testing.T) {
	for _, c := range brokenOnes {
		if c.early {
			continue // there is one thread
		}
		for _, log := range logs {
			t.Run(fmt.Sprintf("%v, %s", log, c.name), func(t *testing.T) {
				losses := 0
				for seed := range uint64(200) {
					n, wrong := interrupt(t, seed, log, c.strategy, c.edit, c.unfenced)
					if losses += n; wrong != nil {
						t.Logf("found after %d losses of power: %v", losses, wrong)
						return
					}
				}
				t.Errorf("not found by %d losses of power", losses)
			})
		}
	}
}
