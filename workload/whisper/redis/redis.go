// Package redis is a cache like Redis with a bound on its memory, as the LRU test of the WHISPER suite uses it: keys drawn by a power law
// are set and looked up, and when there are too many, one that was not used for long goes.
//
// The dictionary, its entries and values are in persistent memory, under an undo log: a command that changes them is a
// transaction. When a key was used last is a hint, kept in volatile memory, and not there any more after a crash. As
// in Redis, the least recently used key is looked for among a few that are drawn at random.
package redis

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"whale/mirror"
	"whale/mirror/ptx"
	"whale/workload"
	"whale/workload/whisper/app"
	"whale/workload/whisper/chain"
)

// Params are the cache's parameters. [Default] has those that Params leave zero.
type Params struct {
	Keys   int           // that users know
	Cached int           // that are kept
	Value  int           // bytes of the longest value; the shortest has 8
	Gets   int           // lookups for each SET
	Skew   float64       // exponent of the power law: key k of n is drawn with a weight of (1 - k/n)^Skew
	Sample int           // keys among which the least recently used is looked for
	Think  time.Duration // work for a command, besides its transaction: reading, parsing, answering
}

// Default is a cache of 4096 of 16384 keys, with the exponent, and as many lookups as commands that set, of redis-cli --lru-test.
func Default() Params {
	return Params{Keys: 16384, Cached: 4096, Value: 128, Gets: 1, Skew: 6.2, Sample: 5, Think: 2 * time.Microsecond}
}

// The root object.
const (
	rootTable   = 0
	rootBuckets = 8
	rootCount   = 16
	rootUsed    = 24 // bytes of values
	rootSize    = 32
)

// An entry behind the table's words; the key is the number that the hash is made of.
const (
	entryValue = chain.Own // place
	entryKey   = chain.Own + 8
	entrySize  = chain.Own + 16
)

// A value: length, salt, and bytes that follow from key and salt.
const (
	valueLen  = 0
	valueSalt = 8
	valueHead = 16
)

// Cache implements workload.Workload.
type Cache struct{ p Params }

// New checks the parameters.
func New(p Params) (*Cache, error) {
	def := Default()
	for _, v := range []struct {
		at  *int
		def int
	}{{&p.Keys, def.Keys}, {&p.Cached, def.Cached}, {&p.Value, def.Value}, {&p.Gets, def.Gets}, {&p.Sample, def.Sample}} {
		if *v.at == 0 {
			*v.at = v.def
		}
	}
	if p.Skew == 0 {
		p.Skew = def.Skew
	}
	if p.Think == 0 {
		p.Think = def.Think
	}
	if p.Cached < 1 || p.Cached > 1<<24 || p.Keys < p.Cached || p.Keys > 1<<30 || p.Value < 8 || p.Value > 4<<10 ||
		p.Gets < 0 || p.Gets > 1000 || p.Sample < 1 || p.Sample > 64 || !(p.Skew > 0 && p.Skew <= 100) || p.Think < 0 {
		return nil, fmt.Errorf("redis: %+v: want up to 2^24 keys cached of as many or more, values of 8 bytes to 4 KiB, up to 1000 lookups, "+
			"samples of 1 to 64, a skew up to 100", p)
	}
	return &Cache{p}, nil
}

// Name implements workload.Workload.
func (w *Cache) Name() string { return "redis" }

// Threads implements workload.Workload: Redis has one.
func (w *Cache) Threads() int { return 1 }

const (
	lanes   = 16
	logSize = 4 << 10
)

// buckets is about as many as there are entries.
func (w *Cache) buckets() uint64 {
	n := uint64(1)
	for n < uint64(w.p.Cached) {
		n *= 2
	}
	return n
}

// Size implements workload.Workload.
func (w *Cache) Size() uint64 {
	return lanes*logSize + uint64(w.p.Cached+1)*(app.Room(valueHead+w.p.Value)+app.Room(entrySize)) + app.Room(int(8*w.buckets())) + app.Sizes(app.SizesTo(valueHead+w.p.Value)+3)
}

func (w *Cache) spec() app.Spec {
	return app.Spec{Name: w.Name(), Params: []uint64{uint64(w.p.Cached), uint64(w.p.Value)},
		Pool: ptx.Options{Log: ptx.Undo, Lanes: lanes, LogSize: logSize, Root: rootSize}}
}

// prepareSeed is of the commands that fill the cache.
const prepareSeed = 0x7265646973

// Prepare implements workload.Workload: the cache is full.
func (w *Cache) Prepare(r *mirror.Region) error {
	return w.spec().Create(r, func(d *app.Data) error {
		err := d.Do(func(tx *ptx.Tx) error {
			table, err := chain.Make(tx, w.buckets())
			if err != nil {
				return err
			}
			tx.Store64(d.Root+rootTable, table.At)
			tx.Store64(d.Root+rootBuckets, table.Buckets)
			return nil
		})
		if err != nil {
			return err
		}
		p, t := w.program(d), workload.NewThread(0, prepareSeed, app.Still{})
		for i := range uint64(w.p.Cached) {
			if err := p.set(t, i); err != nil {
				return err
			}
		}
		return nil
	})
}

// Open implements workload.Workload.
func (w *Cache) Open(r *mirror.Region) (workload.Program, error) {
	d, err := w.spec().Open(r)
	if err != nil {
		return nil, err
	}
	p := w.program(d)
	return p, p.Check()
}

func (w *Cache) program(d *app.Data) *program {
	return &program{Cache: w, Data: d, value: make([]byte, w.p.Value), used: map[uint64]uint64{},
		table: chain.Table{At: d.Region.Load64(d.Root + rootTable), Buckets: d.Region.Load64(d.Root + rootBuckets)}}
}

// program is the cache on its data.
type program struct {
	*Cache
	*app.Data
	table chain.Table
	lock  app.Lock
	value []byte // of the command under way

	clock uint64            // commands
	used  map[uint64]uint64 // by key: when it was used last
}

// key draws one; 0 is the one that is drawn most.
func (p *program) key(t *workload.Thread) uint64 {
	return uint64(float64(p.p.Keys) * (1 - math.Pow(1-t.Rand.Float64(), 1/(p.p.Skew+1))))
}

// Run implements workload.Program: n SETs, each behind its lookups.
func (p *program) Run(t *workload.Thread, n int) error {
	for range n {
		for range p.p.Gets {
			if err := p.get(t, p.key(t)); err != nil {
				return err
			}
		}
		if err := p.set(t, p.key(t)); err != nil {
			return err
		}
	}
	return nil
}

// find looks for a key. Under the lock.
func (p *program) find(t *workload.Thread, key uint64) (entry, link uint64) {
	p.clock++
	entry, link, steps := p.table.Find(p.Region, app.Mix(key), func(e uint64) bool { return p.Region.Load64(e+entryKey) == key })
	p.Visit(t, 1+steps)
	return entry, link
}

// get looks a key up, and its value through.
func (p *program) get(t *workload.Thread, key uint64) error {
	t.Compute(p.p.Think)
	p.lock.Lock(t, p.Data)
	defer p.lock.Unlock()
	entry, _ := p.find(t, key)
	if entry == 0 {
		return nil
	}
	p.used[key] = p.clock
	p.Visit(t, 1)
	_, err := p.valueOf(entry)
	return err
}

// valueOf is an entry's value, if it is right.
func (p *program) valueOf(entry uint64) ([]byte, error) {
	at := p.Region.Load64(entry + entryValue)
	head, err := p.Bytes(at, valueHead)
	if err != nil {
		return nil, err
	}
	n, salt := binary.LittleEndian.Uint64(head[valueLen:]), binary.LittleEndian.Uint64(head[valueSalt:])
	if n > uint64(p.p.Value) {
		return nil, fmt.Errorf("%w: the value at %d has %d bytes, want %d at most", app.ErrDamaged, at, n, p.p.Value)
	}
	b, err := p.Bytes(at+valueHead, n)
	if err == nil && !app.Filled(b, p.Region.Load64(entry+entryKey)^salt) {
		err = fmt.Errorf("%w: the value at %d is not that of its entry at %d", app.ErrDamaged, at, entry)
	}
	return b, err
}

// set gives a key a new value, and has another key go if there is no room.
func (p *program) set(t *workload.Thread, key uint64) error {
	t.Compute(p.p.Think)
	p.lock.Lock(t, p.Data)
	defer p.lock.Unlock()
	entry, _ := p.find(t, key)
	victim, link := uint64(0), uint64(0)
	if entry == 0 && p.Region.Load64(p.Root+rootCount) >= uint64(p.p.Cached) {
		victim = p.oldest(t)
		_, link, _ = p.table.Find(p.Region, chain.Hash(p.Region, victim), func(e uint64) bool { return e == victim })
	}
	n, salt := 8+t.Rand.IntN(p.p.Value-7), t.Rand.Uint64()
	gone := uint64(0)
	if victim != 0 {
		gone = p.Region.Load64(victim + entryKey)
	}
	err := p.Do(func(tx *ptx.Tx) error {
		if victim != 0 {
			if err := p.evict(tx, victim, link); err != nil {
				return err
			}
		}
		return p.store(tx, entry, key, salt, p.value[:n])
	})
	if err != nil {
		return err
	}
	if victim != 0 {
		delete(p.used, gone)
	}
	p.used[key] = p.clock
	return nil
}

// oldest is the entry that was used least recently of a few.
func (p *program) oldest(t *workload.Thread) uint64 {
	best, when := uint64(0), uint64(math.MaxUint64)
	for range p.p.Sample {
		entry := uint64(0)
		for entry == 0 { // the cache is full, and has as many buckets
			entry = p.table.First(p.Region, t.Rand.Uint64())
			p.Visit(t, 2)
		}
		if used := p.used[p.Region.Load64(entry+entryKey)]; used < when {
			best, when = entry, used
		}
	}
	return best
}

// count changes the two counters of the root.
func (p *program) count(tx *ptx.Tx, keys, bytes uint64) {
	tx.Add(p.Root+rootCount, 16)
	if keys != 0 {
		tx.Store64(p.Root+rootCount, tx.Load64(p.Root+rootCount)+keys)
	}
	tx.Store64(p.Root+rootUsed, tx.Load64(p.Root+rootUsed)+bytes)
}

func (p *program) evict(tx *ptx.Tx, entry, link uint64) error {
	value := tx.Load64(entry + entryValue)
	chain.Remove(tx, entry, link)
	p.count(tx, ^uint64(0), -tx.Load64(value+valueLen))
	if err := tx.Free(value); err != nil {
		return err
	}
	return tx.Free(entry)
}

func (p *program) store(tx *ptx.Tx, entry, key, salt uint64, b []byte) error {
	value, err := tx.Alloc(valueHead + uint64(len(b)))
	if err != nil {
		return err
	}
	app.Fill(b, key^salt)
	tx.Store64(value+valueLen, uint64(len(b)))
	tx.Store64(value+valueSalt, salt)
	tx.Write(value+valueHead, b)
	if entry != 0 {
		old := tx.Load64(entry + entryValue)
		p.count(tx, 0, uint64(len(b))-tx.Load64(old+valueLen))
		tx.Store64(entry+entryValue, value)
		return tx.Free(old)
	}
	if entry, err = tx.Alloc(entrySize); err != nil {
		return err
	}
	tx.Store64(entry+entryValue, value)
	tx.Store64(entry+entryKey, key)
	p.table.Push(tx, entry, app.Mix(key))
	p.count(tx, 1, uint64(len(b)))
	return nil
}

// Check implements workload.Program.
func (p *program) Check() error {
	used := []uint64{p.table.At}
	var count, bytes uint64
	err := p.table.Walk(p.Data, entrySize, func(entry uint64) error {
		key := p.Region.Load64(entry + entryKey)
		if app.Mix(key) != chain.Hash(p.Region, entry) {
			return fmt.Errorf("%w: the entry at %d has key %d and another hash", app.ErrDamaged, entry, key)
		}
		b, err := p.valueOf(entry)
		if err != nil {
			return err
		}
		used = append(used, entry, p.Region.Load64(entry+entryValue))
		count, bytes = count+1, bytes+uint64(len(b))
		return nil
	})
	if err == nil {
		if c, u := p.Region.Load64(p.Root+rootCount), p.Region.Load64(p.Root+rootUsed); c != count || u != bytes || c > uint64(p.p.Cached) {
			err = fmt.Errorf("%w: %d keys with %d bytes are there, %d with %d are counted, and %d may be", app.ErrDamaged, count, bytes, c, u, p.p.Cached)
		}
	}
	if at := p.Region.Load64(p.Root + rootTable); err == nil && (at != p.table.At || p.table.Buckets != p.buckets() || p.Region.Load64(p.Root+rootBuckets) != p.table.Buckets) {
		err = fmt.Errorf("%w: the table is not where it was, or has not %d buckets", app.ErrDamaged, p.buckets())
	}
	if err == nil {
		err = p.Owned(used)
	}
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	return nil
}

// Content implements app.Program.
func (p *program) Content() uint64 {
	var sum app.Sum
	for i := range p.table.Buckets {
		for entry := p.table.First(p.Region, i); entry != 0; entry = chain.After(p.Region, entry) {
			b, _ := p.valueOf(entry)
			sum.Add(p.Region.Load64(entry+entryKey), b)
		}
	}
	return uint64(sum)
}
