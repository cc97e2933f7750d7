// Package echo is the key-value store Echo of the WHISPER suite (Bailey et al., "Exploring Storage Class Memory with Key Value Stores",
// INFLOW 2013): each thread puts into a volatile store of its own, and merges it into the versioned master, in persistent memory,
// every few puts. A merge is a transaction, under a counted undo log.
//
// The master keeps several versions of each key's value. A merge gives its number to all the versions that it adds, so that a
// reader with a snapshot, which is the number of a merge, finds for each key the newest version that is not newer.
package echo

import (
	"fmt"
	"time"

	"whale/mirror"
	"whale/mirror/ptx"
	"whale/workload"
	"whale/workload/whisper/app"
	"whale/workload/whisper/chain"
)

// Params are the store's parameters. [Default] has those that Params leave zero.
type Params struct {
	Keys     int           // that there are
	Prepare  int           // so many of them have a version at the start
	Key      int           // bytes
	Value    int           // bytes
	Merge    int           // puts between merges
	Gets     int           // lookups for each put
	Versions int           // of a key that are kept
	Threads  int           // clients
	Think    time.Duration // work for a request, besides the merge
}

// Default is what was measured: a merge every 8 puts, keys of 128 bytes, values of 1 KiB; by 4 clients.
func Default() Params {
	return Params{Keys: 2048, Prepare: 256, Key: 128, Value: 1024, Merge: 8, Gets: 1, Versions: 3, Threads: 4, Think: 500 * time.Nanosecond}
}

// The root object.
const (
	rootTable  = 0
	rootKeys   = 8  // that have a version
	rootNewest = 16 // the number of the newest merge
	rootSize   = 24
)

// An entry of the table, for a key.
const (
	entryNewest = chain.Own // place of the newest version
	entryCount  = chain.Own + 8
	entryNumber = chain.Own + 16 // of the key: its bytes follow from it
	entryKey    = chain.Own + 24 // bytes
)

// A version.
const (
	versionOlder = 0 // place; 0: it is the oldest that is kept
	versionMerge = 8
	versionValue = 16 // place of the value: bytes that follow from key, merge and salt
	versionSalt  = 24
	versionSize  = 32
)

// Store implements workload.Workload.
type Store struct{ p Params }

// New checks the parameters.
func New(p Params) (*Store, error) {
	def := Default()
	for _, v := range []struct {
		at  *int
		def int
	}{{&p.Keys, def.Keys}, {&p.Prepare, min(def.Prepare, max(p.Keys, 1))}, {&p.Key, def.Key}, {&p.Value, def.Value}, {&p.Merge, def.Merge},
		{&p.Gets, def.Gets}, {&p.Versions, def.Versions}, {&p.Threads, def.Threads}} {
		if *v.at == 0 {
			*v.at = v.def
		}
	}
	if p.Think == 0 {
		p.Think = def.Think
	}
	if p.Keys < 1 || p.Keys > 1<<24 || p.Prepare < 0 || p.Prepare > p.Keys || p.Key < 8 || p.Key > 1<<10 || p.Value < 8 || p.Value > 64<<10 ||
		p.Merge < 1 || p.Merge > 256 || p.Gets < 0 || p.Gets > 1000 || p.Versions < 1 || p.Versions > 64 || p.Threads < 1 || p.Threads > lanes || p.Think < 0 {
		return nil, fmt.Errorf("echo: %+v: want 1 to 2^24 keys of 8 bytes to 1 KiB, values of 8 bytes to 64 KiB, merges of 1 to 256 puts, up to 1000 lookups, "+
			"1 to 64 versions, up to %d threads", p, lanes)
	}
	return &Store{p}, nil
}

// Name implements workload.Workload.
func (w *Store) Name() string { return "echo" }

// Threads implements workload.Workload.
func (w *Store) Threads() int { return w.p.Threads }

const lanes = 16

// logSize is room for what a put changes: some words and marks of blocks.
func (w *Store) logSize() uint64 { return uint64(w.p.Merge)*512 + 4<<10 }

func (w *Store) buckets() uint64 {
	n := uint64(1)
	for n < uint64(w.p.Keys) {
		n *= 2
	}
	return n
}

// Size implements workload.Workload.
func (w *Store) Size() uint64 {
	versions := uint64(w.p.Versions+1) * (app.Room(w.p.Value) + app.Room(versionSize))
	return lanes*w.logSize() + uint64(w.p.Keys)*(app.Room(entryKey+w.p.Key)+versions) + app.Room(int(8*w.buckets())) + app.Sizes(5)
}

func (w *Store) spec() app.Spec {
	return app.Spec{Name: w.Name(), Params: []uint64{uint64(w.p.Keys), uint64(w.p.Key), uint64(w.p.Value), uint64(w.p.Versions)},
		Pool: ptx.Options{Log: ptx.Counted, Lanes: lanes, LogSize: w.logSize(), Root: rootSize}}
}

// Prepare implements workload.Workload.
func (w *Store) Prepare(r *mirror.Region) error {
	return w.spec().Create(r, func(d *app.Data) error {
		err := d.Do(func(tx *ptx.Tx) error {
			table, err := chain.Make(tx, w.buckets())
			tx.Store64(d.Root+rootTable, table.At)
			return err
		})
		if err != nil {
			return err
		}
		p, t := w.program(d), workload.NewThread(0, 0x6563686f, app.Still{})
		local := p.newLocal()
		for number := range uint64(w.p.Prepare) {
			if local.put(number, t.Rand.Uint64()); len(local.order) == w.p.Merge || number == uint64(w.p.Prepare)-1 {
				if err := p.merge(t, local); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Open implements workload.Workload.
func (w *Store) Open(r *mirror.Region) (workload.Program, error) {
	d, err := w.spec().Open(r)
	if err != nil {
		return nil, err
	}
	p := w.program(d)
	return p, p.Check()
}

func (w *Store) program(d *app.Data) *program {
	return &program{Store: w, Data: d, key: make([]byte, w.p.Key), value: make([]byte, w.p.Value),
		table: chain.Table{At: d.Region.Load64(d.Root + rootTable), Buckets: w.buckets()}}
}

// local is a thread's volatile store: the salts of values, which are made of them when they are merged.
type local struct {
	salts map[uint64]uint64 // by number of the key
	order []uint64
}

func (p *program) newLocal() *local { return &local{salts: make(map[uint64]uint64, p.p.Merge)} }

// put keeps the newest value of a key.
func (l *local) put(number, salt uint64) {
	if _, again := l.salts[number]; !again {
		l.order = append(l.order, number)
	}
	l.salts[number] = salt
}
