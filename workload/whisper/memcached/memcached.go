// Package memcached is a cache like memcached on a redo-logged transactional memory, as in the WHISPER suite. Every request is a
// transaction: a SET stores an item, and a GET that finds one moves it to the front of the list by which the least
// recently used item is known; a GET that finds none is followed by the SET that puts it there.
//
// Items are in persistent memory whole, with their places in the hash table and in the list. The cache is in parts, by hash, with a
// lock, a table and a list each, so that threads disturb each other little.
package memcached

import (
	"fmt"
	"time"

	"whale/mirror"
	"whale/mirror/ptx"
	"whale/workload"
	"whale/workload/whisper/app"
	"whale/workload/whisper/chain"
)

// Params are the cache's parameters. [Default] has those that Params leave zero.
type Params struct {
	Keys     int           // that users know
	Cached   int           // that are kept
	Smallest int           // bytes of a value
	Largest  int           // bytes of a value
	Sets     int           // SETs in a hundred requests
	Threads  int           // clients
	Think    time.Duration // work for a request, besides its transaction: reading, parsing, answering
}

// Default is 4 clients, a SET in ten requests, and values of 64 to 512 bytes.
func Default() Params {
	return Params{Keys: 8192, Cached: 4096, Smallest: 64, Largest: 512, Sets: 10, Threads: 4, Think: 2 * time.Microsecond}
}

// parts is how many parts the cache has.
const parts = 16

// The root object is a line for each part.
const (
	partTable = 0 // place; all have as many buckets
	partCount = 8
	partFront = 16 // of the list: the item used last
	partBack  = 24
	partCAS   = 32 // how many items were stored; each has the number of its own
	partSize  = 64
)

// An item behind the table's words.
const (
	itemNewer = chain.Own // places in the list; 0: none
	itemOlder = chain.Own + 8
	itemKey   = chain.Own + 16
	itemCAS   = chain.Own + 24
	itemLen   = chain.Own + 32
	itemValue = chain.Own + 40 // bytes that follow from key, number and length
)

// Cache implements workload.Workload.
type Cache struct{ p Params }

// New checks the parameters.
func New(p Params) (*Cache, error) {
	def := Default()
	for _, v := range []struct {
		at  *int
		def int
	}{{&p.Keys, def.Keys}, {&p.Cached, def.Cached}, {&p.Smallest, def.Smallest}, {&p.Largest, max(def.Largest, p.Smallest)},
		{&p.Sets, def.Sets}, {&p.Threads, def.Threads}} {
		if *v.at == 0 {
			*v.at = v.def
		}
	}
	if p.Think == 0 {
		p.Think = def.Think
	}
	if p.Cached < parts || p.Cached > 1<<24 || p.Keys < p.Cached || p.Keys > 1<<30 || p.Smallest < 1 || p.Largest < p.Smallest ||
		p.Largest > 8<<10 || p.Sets < 0 || p.Sets > 100 || p.Threads < 1 || p.Threads > lanes || p.Think < 0 {
		return nil, fmt.Errorf("memcached: %+v: want %d to 2^24 keys cached, of as many or more; values of 1 byte to 8 KiB; SETs in a hundred; "+
			"up to %d threads", p, parts, lanes)
	}
	return &Cache{p}, nil
}

// Name implements workload.Workload.
func (w *Cache) Name() string { return "memcached" }

// Threads implements workload.Workload.
func (w *Cache) Threads() int { return w.p.Threads }

const (
	lanes   = 16
	logSize = 16 << 10
)

// most is how many items a part keeps.
func (w *Cache) most() uint64 { return uint64(w.p.Cached) / parts }

// buckets are those of a part.
func (w *Cache) buckets() uint64 {
	n := uint64(1)
	for n < w.most() {
		n *= 2
	}
	return n
}

// Size implements workload.Workload.
func (w *Cache) Size() uint64 {
	return lanes*logSize + uint64(w.p.Cached+parts)*app.Room(itemValue+w.p.Largest) + parts*app.Room(int(8*w.buckets())) + app.Sizes(app.SizesTo(itemValue+w.p.Largest)+2)
}

func (w *Cache) spec() app.Spec {
	return app.Spec{Name: w.Name(), Params: []uint64{uint64(w.p.Cached), uint64(w.p.Largest)},
		Pool: ptx.Options{Log: ptx.Redo, Lanes: lanes, LogSize: logSize, Root: parts * partSize}}
}

// prepareSeed is of the requests that fill the cache.
const prepareSeed = 0x6d656d6361636865

// Prepare implements workload.Workload: the cache is full, but for what the parts differ by.
func (w *Cache) Prepare(r *mirror.Region) error {
	return w.spec().Create(r, func(d *app.Data) error {
		for i := range uint64(parts) {
			err := d.Do(func(tx *ptx.Tx) error {
				table, err := chain.Make(tx, w.buckets())
				tx.Store64(d.Root+i*partSize+partTable, table.At)
				return err
			})
			if err != nil {
				return err
			}
		}
		p, t := w.program(d), workload.NewThread(0, prepareSeed, app.Still{})
		for key := range uint64(w.p.Cached) {
			if _, err := p.set(t, key); err != nil {
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
	p := &program{Cache: w, Data: d}
	for i := range p.parts {
		s := &p.parts[i]
		s.Data, s.root, s.most = d, d.Root+uint64(i)*partSize, w.most()
		s.table = chain.Table{At: d.Region.Load64(s.root + partTable), Buckets: w.buckets()}
		s.value = make([]byte, w.p.Largest)
	}
	return p
}

// program is the cache on its data.
type program struct {
	*Cache
	*app.Data
	parts [parts]part
}

// Run implements workload.Program.
func (p *program) Run(t *workload.Thread, n int) error {
	for n > 0 {
		key := t.Rand.Uint64N(uint64(p.p.Keys))
		request := p.get
		if t.Rand.IntN(100) < p.p.Sets {
			request = p.set
		}
		wrote, err := request(t, key)
		if err != nil {
			return err
		}
		if wrote {
			n--
		}
	}
	return nil
}

// part is the one that a key is in.
func (p *program) part(key uint64) *part { return &p.parts[app.Mix(key)>>60] }

// get looks a key up, and says whether that was a transaction: a look at the item that was used last changes nothing.
func (p *program) get(t *workload.Thread, key uint64) (wrote bool, err error) {
	t.Compute(p.p.Think)
	s := p.part(key)
	s.lock.Lock(t, p.Data)
	defer s.lock.Unlock()
	item, _ := s.find(t, key)
	switch {
	case item == 0:
		return true, s.store(t, key, 0, 0, p.length(t))
	case item == p.Region.Load64(s.root+partFront):
		return false, nil
	}
	if _, err := s.valueOf(item); err != nil {
		return false, err
	}
	p.Visit(t, 2)
	return true, p.Do(func(tx *ptx.Tx) error {
		s.unlink(tx, item)
		s.link(tx, item)
		return nil
	})
}

func (p *program) length(t *workload.Thread) int {
	return p.p.Smallest + t.Rand.IntN(p.p.Largest-p.p.Smallest+1)
}

// set stores a new item for a key, in place of the one that is there, or of the one that was not used for the longest time.
func (p *program) set(t *workload.Thread, key uint64) (wrote bool, err error) {
	t.Compute(p.p.Think)
	s := p.part(key)
	s.lock.Lock(t, p.Data)
	defer s.lock.Unlock()
	item, at := s.find(t, key)
	return true, s.store(t, key, item, at, p.length(t))
}

// Check implements workload.Program.
func (p *program) Check() error {
	var used []uint64
	for i := range p.parts {
		blocks, err := p.parts[i].check(uint64(i))
		if err != nil {
			return fmt.Errorf("memcached: part %d: %w", i, err)
		}
		used = append(used, blocks...)
	}
	if err := p.Owned(used); err != nil {
		return fmt.Errorf("memcached: %w", err)
	}
	return nil
}

// Content implements app.Program: the items, and the order in which they were used.
func (p *program) Content() uint64 {
	var sum app.Sum
	for i := range p.parts {
		s := &p.parts[i]
		order := uint64(0)
		for item := p.Region.Load64(s.root + partFront); item != 0; item = p.Region.Load64(item + itemOlder) {
			order++
			b, _ := s.valueOf(item)
			sum.Add(p.Region.Load64(item+itemKey)^order<<32, b)
		}
	}
	return uint64(sum)
}
