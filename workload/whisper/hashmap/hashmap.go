// Package hashmap is the hash map of the WHISPER suite: chained, under a counted undo log. A transaction allocates a value, inserts it, and
// counts; when there are too many entries for its buckets, one giant transaction moves them all to a table of twice the size.
package hashmap

import (
	"fmt"
	"time"

	"whale/mirror"
	"whale/mirror/ptx"
	"whale/workload"
	"whale/workload/whisper/app"
	"whale/workload/whisper/chain"
)

// Params are the map's parameters. [Default] has those that Params leave zero.
type Params struct {
	Keys    int           // up to so many are inserted; then every other transaction removes one
	Buckets int           // at first, a power of two
	Value   int           // bytes
	Think   time.Duration // work besides a transaction
}

// Default is an empty map of 64 buckets for values of 128 bytes.
func Default() Params {
	return Params{Keys: 12288, Buckets: 64, Value: 128, Think: 200 * time.Nanosecond}
}

// full is how many entries a bucket has in the mean when the table grows.
const full = 4

// The root object.
const (
	rootTable   = 0 // place
	rootBuckets = 8
	rootCount   = 16
	rootSize    = 24
)

// An entry behind the table's words.
const (
	entryValue = chain.Own     // place
	entrySalt  = chain.Own + 8 // what the value follows from, with the key
	entrySize  = chain.Own + 16
)

// Map implements workload.Workload.
type Map struct{ p Params }

// New checks the parameters.
func New(p Params) (*Map, error) {
	def := Default()
	p.Keys, p.Buckets, p.Value = or(p.Keys, def.Keys), or(p.Buckets, def.Buckets), or(p.Value, def.Value)
	if p.Think == 0 {
		p.Think = def.Think
	}
	if p.Keys < 1 || p.Keys > 1<<24 || p.Buckets < 1 || p.Buckets > 1<<20 || p.Buckets&(p.Buckets-1) != 0 || p.Value < 8 || p.Value > 4<<10 || p.Think < 0 {
		return nil, fmt.Errorf("hashmap: %+v: want 1 to 2^24 keys, a power of two up to 2^20 of buckets, values of 8 bytes to 4 KiB", p)
	}
	return &Map{p}, nil
}

func or(v, def int) int {
	if v == 0 {
		return def
	}
	return v
}

// Name implements workload.Workload.
func (w *Map) Name() string { return "hashmap" }

// Threads implements workload.Workload.
func (w *Map) Threads() int { return 1 }

const lanes = 4

// logSize is room for a table that grows: an entry of the log for each of the map's.
func (w *Map) logSize() uint64 { return uint64(w.p.Keys)*32 + 8<<10 }

// Size implements workload.Workload.
func (w *Map) Size() uint64 {
	keys := uint64(w.p.Keys)
	tables := 8 * 3 * max(uint64(w.p.Buckets), keys/full*2)
	return lanes*w.logSize() + keys*(app.Room(w.p.Value)+app.Room(entrySize)) + tables + app.Sizes(8)
}

func (w *Map) spec() app.Spec {
	return app.Spec{Name: w.Name(), Params: []uint64{uint64(w.p.Keys), uint64(w.p.Buckets), uint64(w.p.Value)},
		Pool: ptx.Options{Log: ptx.Counted, Lanes: lanes, LogSize: w.logSize(), Root: rootSize}}
}

// Prepare implements workload.Workload: the map is empty.
func (w *Map) Prepare(r *mirror.Region) error {
	return w.spec().Create(r, func(d *app.Data) error {
		return d.Do(func(tx *ptx.Tx) error {
			table, err := chain.Make(tx, uint64(w.p.Buckets))
			if err != nil {
				return err
			}
			tx.Store64(d.Root+rootTable, table.At)
			tx.Store64(d.Root+rootBuckets, table.Buckets)
			return nil
		})
	})
}

// Open implements workload.Workload.
func (w *Map) Open(r *mirror.Region) (workload.Program, error) {
	d, err := w.spec().Open(r)
	if err != nil {
		return nil, err
	}
	p := &program{Map: w, Data: d, value: make([]byte, w.p.Value)}
	return p, p.Check()
}

// program is the map on its data.
type program struct {
	*Map
	*app.Data
	lock  app.Lock
	value []byte // of the transaction under way
}

func (p *program) table(m chain.Words) chain.Table {
	return chain.Table{At: m.Load64(p.Root + rootTable), Buckets: m.Load64(p.Root + rootBuckets)}
}

// Run implements workload.Program.
func (p *program) Run(t *workload.Thread, n int) error {
	for range n {
		t.Compute(p.p.Think)
		if err := p.step(t); err != nil {
			return err
		}
	}
	return nil
}

// step inserts a key that is not there, or removes one if the map is full.
func (p *program) step(t *workload.Thread) error {
	p.lock.Lock(t, p.Data)
	defer p.lock.Unlock()
	remove := p.Region.Load64(p.Root+rootCount) >= uint64(p.p.Keys)
	if !remove {
		if err := p.grow(); err != nil {
			return err
		}
	}
	table := p.table(p.Region)
	for {
		h := app.Mix(t.Rand.Uint64N(2 * uint64(p.p.Keys)))
		entry, link, steps := table.Find(p.Region, h, nil)
		p.Visit(t, 1+steps)
		switch {
		case entry == 0 && !remove:
			return p.Do(func(tx *ptx.Tx) error { return p.insert(tx, table, h, t.Rand.Uint64()) })
		case entry != 0 && remove:
			return p.Do(func(tx *ptx.Tx) error { return p.remove(tx, entry, link) })
		}
	}
}

func (p *program) insert(tx *ptx.Tx, table chain.Table, h, salt uint64) error {
	value, err := tx.Alloc(uint64(p.p.Value))
	if err != nil {
		return err
	}
	app.Fill(p.value, h^salt)
	tx.Write(value, p.value)
	entry, err := tx.Alloc(entrySize)
	if err != nil {
		return err
	}
	tx.Store64(entry+entryValue, value)
	tx.Store64(entry+entrySalt, salt)
	table.Push(tx, entry, h)
	tx.Store64(p.Root+rootCount, tx.Load64(p.Root+rootCount)+1)
	return nil
}

func (p *program) remove(tx *ptx.Tx, entry, link uint64) error {
	chain.Remove(tx, entry, link)
	tx.Store64(p.Root+rootCount, tx.Load64(p.Root+rootCount)-1)
	if err := tx.Free(tx.Load64(entry + entryValue)); err != nil {
		return err
	}
	return tx.Free(entry)
}

// grow makes room for one entry more.
func (p *program) grow() error {
	table := p.table(p.Region)
	if p.Region.Load64(p.Root+rootCount) < full*table.Buckets {
		return nil
	}
	return p.Do(func(tx *ptx.Tx) error {
		bigger, err := table.Grow(tx, 2*table.Buckets)
		if err != nil {
			return err
		}
		tx.Store64(p.Root+rootTable, bigger.At)
		tx.Store64(p.Root+rootBuckets, bigger.Buckets)
		return nil
	})
}

// Check implements workload.Program.
func (p *program) Check() error {
	table := p.table(p.Region)
	used := []uint64{table.At}
	count := uint64(0)
	err := table.Walk(p.Data, entrySize, func(entry uint64) error {
		count++
		at := p.Region.Load64(entry + entryValue)
		used = append(used, entry, at)
		value, err := p.Bytes(at, uint64(p.p.Value))
		if err != nil {
			return err
		}
		if !app.Filled(value, chain.Hash(p.Region, entry)^p.Region.Load64(entry+entrySalt)) {
			return fmt.Errorf("%w: the value at %d is not its entry's at %d", app.ErrDamaged, at, entry)
		}
		return nil
	})
	switch has := p.Region.Load64(p.Root + rootCount); {
	case err != nil:
		return fmt.Errorf("hashmap: %w", err)
	case count != has:
		return fmt.Errorf("hashmap: %w: %d entries, and %d are counted", app.ErrDamaged, count, has)
	}
	if err := p.Owned(used); err != nil {
		return fmt.Errorf("hashmap: %w", err)
	}
	return nil
}

// Content implements app.Program.
func (p *program) Content() uint64 {
	var sum app.Sum
	table := p.table(p.Region)
	for i := range table.Buckets {
		for entry := table.First(p.Region, i); entry != 0; entry = chain.After(p.Region, entry) {
			at := p.Region.Load64(entry + entryValue)
			sum.Add(chain.Hash(p.Region, entry), p.Region.Bytes()[at:at+uint64(p.p.Value)])
		}
	}
	return uint64(sum)
}
