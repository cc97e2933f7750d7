package ptx_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/mirror"
	"whale/mirror/mirrortest"
	"whale/mirror/ptx"
	"whale/pmem"
)

// table is a chained hash table that several threads change at a time, each its own keys: the root is a row of buckets, an entry has the
// place of the next one, its key, and a value.
type table struct {
	pool   *ptx.Pool
	world  *mirrortest.World
	locked [buckets]bool
	early  bool // broken: a bucket is given back before its transaction has committed
}

const (
	buckets   = 4
	entryNext = 0
	entryKey  = 8
	entryVal  = 16
	valSize   = 40
)

// pairs are keys and what their values are filled with.
type pairs map[uint64]byte

// worker is a thread: its keys have its number in their upper half.
type worker struct {
	number    uint64
	has, next pairs // committed; and when the transaction under way has
	rng       *rand.Rand
}

func (p *table) bucket(b int) uint64 { return p.pool.Root() + 8*uint64(b) }

// run does transactions, each of which changes some keys of one bucket or two.
func (p *table) run(w *worker, transactions int) error {
	for range transactions {
		if err := p.transaction(w); err != nil {
			return err
		}
	}
	return nil
}

func (p *table) transaction(w *worker) error {
	one := w.rng.IntN(buckets)
	all := []int{one, one + w.rng.IntN(buckets-one)} // in one order everywhere
	if all[0] == all[1] {
		all = all[:1]
	}
	for _, b := range all {
		for p.locked[b] {
			p.world.Yield()
		}
		p.locked[b] = true
	}
	locked := true
	unlock := func() {
		for _, b := range all {
			p.locked[b] = p.locked[b] && !locked
		}
		locked = false
	}
	defer unlock() // when it fails, too: others are waiting
	tx, err := p.pool.Begin()
	if err != nil {
		return err
	}
	next := maps.Clone(w.has)
	for range 1 + w.rng.IntN(3) {
		if err := p.change(tx, w, next, all[w.rng.IntN(len(all))]); err != nil {
			return err
		}
		p.world.Yield()
	}
	if p.early {
		unlock()
	}
	if w.rng.IntN(4) == 0 {
		return tx.Abort()
	}
	w.next = next
	if err = tx.Commit(); err == nil {
		w.has = next
	}
	return err
}

// change puts, replaces or removes one of the thread's keys in a bucket.
func (p *table) change(tx *ptx.Tx, w *worker, next pairs, b int) error {
	key := w.number<<32 | uint64(b) | buckets*w.rng.Uint64N(2)
	link := p.bucket(b)
	at := tx.Load64(link)
	for at != 0 && tx.Load64(at+entryKey) != key {
		link, at = at+entryNext, tx.Load64(at+entryNext)
	}
	if at != 0 && w.rng.IntN(2) == 0 {
		delete(next, key)
		tx.Store64(link, tx.Load64(at+entryNext))
		return tx.Free(at)
	}
	next[key] = byte(1 + w.rng.IntN(255))
	value := bytes.Repeat([]byte{next[key]}, valSize)
	if at != 0 {
		tx.Write(at+entryVal, value)
		return nil
	}
	at, err := tx.Alloc(entryVal + valSize)
	if err != nil {
		return err
	}
	tx.Store64(at+entryNext, tx.Load64(p.bucket(b)))
	tx.Store64(at+entryKey, key)
	tx.Write(at+entryVal, value)
	tx.Store64(p.bucket(b), at)
	return nil
}

// judge says whether a pool that was recovered holds, of each thread, what has committed, or that and the transaction under way.
func judge(pool *ptx.Pool, workers []*worker) error {
	found := make([]pairs, len(workers))
	for i := range found {
		found[i] = pairs{}
	}
	b, used := pool.Region().Bytes(), map[uint64]bool{}
	for i := range buckets {
		for at := pool.Region().Load64(pool.Root() + 8*uint64(i)); at != 0; at = binary.LittleEndian.Uint64(b[at:]) {
			if at > uint64(len(b))-entryVal-valSize || used[at] {
				return fmt.Errorf("bucket %d leads to %d, where no entry can be, or twice", i, at)
			}
			used[at] = true
			key, value := binary.LittleEndian.Uint64(b[at+entryKey:]), b[at+entryVal:][:valSize]
			if key>>32 >= uint64(len(workers)) || key%buckets != uint64(i) || !bytes.Equal(value, bytes.Repeat(value[:1], valSize)) {
				return fmt.Errorf("bucket %d has an entry of key %#x with the value %x", i, key, value)
			}
			found[key>>32][key] = value[0]
		}
	}
	for at := range pool.Blocks() {
		if !used[at] {
			return fmt.Errorf("the block at %d is allocated, and in no bucket", at)
		}
		delete(used, at)
	}
	if len(used) > 0 {
		return fmt.Errorf("%d entries are in no allocated block", len(used))
	}
	for i, w := range workers {
		if !maps.Equal(found[i], w.has) && !maps.Equal(found[i], w.next) {
			return fmt.Errorf("thread %d has %v, want %v or %v", i, found[i], w.has, w.next)
		}
	}
	return nil
}

// together runs threads beside each other on one pool, and recovers what losses of power on each side leave, at random points.
func together(t *testing.T, seed uint64, log ptx.Log, s mirror.Strategy, edit func(fabric.Op) []fabric.Op, unfenced, early bool) (losses int, wrong error) {
	rng := rand.New(rand.NewPCG(seed, 13))
	count := 2 + rng.IntN(3)
	o := mirrortest.Options{Net: simfab.Options{Relaxed: true, Late: rng.IntN(2) == 0}, Seed: seed, Size: 128 << 10}
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
	pool, err := ptx.Open(w.Open(mirror.Options{Strategy: s, Threads: count}), ptx.Options{Log: log, Lanes: 4, LogSize: 2048, Root: 8 * buckets})
	if err != nil {
		t.Fatal(err)
	}
	w.Settle()
	armed = true
	p := &table{pool: pool, world: w, early: early}
	var workers []*worker
	var programs []func() error
	for i := range count {
		k := &worker{number: uint64(i), has: pairs{}, next: pairs{}, rng: rng}
		workers = append(workers, k)
		programs = append(programs, func() error { return p.run(k, 4) })
	}
	often := 1 + rng.IntN(60)
	look := func(side string, m *pmem.Simulated) {
		losses++
		left, err := ptx.Open(mirrortest.Alone(t, m.Crash(w.Rng), count), ptx.Options{})
		if err == nil {
			err = judge(left, workers)
		}
		if err != nil && wrong == nil {
			wrong = fmt.Errorf("seed %d, %d threads, %s: %w", seed, count, side, err)
		}
	}
	w.Point = func() {
		if wrong != nil || rng.IntN(often) > 0 {
			return
		}
		look("here", w.Here)
		if s != mirror.None {
			look("there", w.There[0])
		}
	}
	if err := errors.Join(w.Interleave(programs...)...); err != nil {
		return losses, err
	}
	if err := judge(pool, workers); err != nil && wrong == nil {
		wrong = fmt.Errorf("seed %d, without a crash: %w", seed, err)
	}
	return losses, wrong
}

// TestThreadsTogether: threads change one table at a time, and go on one for another at any point; whenever power is lost, each one's
// transactions are there as a whole or not at all, and all that have committed.
func TestThreadsTogether(t *testing.T) {
	for _, log := range logs {
		for _, s := range mirror.Strategies {
			t.Run(fmt.Sprintf("%v, %v", log, s), func(t *testing.T) {
				losses := 0
				for seed := range uint64(6) {
					n, wrong := together(t, seed, log, s, nil, false, false)
					if losses += n; wrong != nil {
						t.Fatal(wrong)
					}
				}
				if losses < 30 {
					t.Errorf("only %d losses of power", losses)
				}
				t.Logf("%d losses of power", losses)
			})
		}
	}
}

// TestThreadsTogetherFinds: what TestThreadsTogether looks for can be wrong.
func TestThreadsTogetherFinds(t *testing.T) {
	for _, log := range logs {
		for _, c := range brokenOnes {
			t.Run(fmt.Sprintf("%v, %s", log, c.name), func(t *testing.T) {
				losses := 0
				for seed := range uint64(200) {
					n, wrong := together(t, seed, log, c.strategy, c.edit, c.unfenced, c.early)
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
