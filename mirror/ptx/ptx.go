// Package ptx makes atomic transactions on a mirrored region: after a crash, wherever the region is opened again, of every
// transaction all or nothing is there, and all of those whose Commit returned nil. It has an allocator whose allocations are
// part of the transaction.
//
//	pool, err := ptx.Open(region, ptx.Options{Root: 64})
//	tx, err := pool.Begin()
//	node, err := tx.Alloc(128)
//	tx.Write(node, record)
//	tx.Store64(pool.Root(), node)
//	err = tx.Commit()
//
// Places are offsets into the region. Three kinds of log are offered, chosen when the pool is made:
//
// An undo log keeps what a range held before it is first changed; the entry is durable before the change is made, in place. Each range
// that is changed costs an epoch, reads cost nothing.
//
// A redo log keeps the new bytes; they are durable before a word says so, and are put into place after that. A transaction
// has four epochs, however many ranges it changes, and reads of what it changed go through the log.
//
// A counted log is an undo log as libraries of persistent memory have had it since NVML: an entry counts when a word says so, not when its
// checksum is right, and what was changed in place is flushed at Commit, each range once. A range costs two epochs, nearly all of one line.
// It is there to measure programs as their transactions were when the WHISPER suite was measured; else Undo is as safe, and costs less.
//
// Recovery is part of Open, on the primary's own copy as on a mirror's after a failover: transactions that did not commit are
// undone, or committed ones carried out.
//
// # Isolation
//
// Transactions are not isolated from each other: programs lock what they change, and what they read of it, until Commit has
// returned. The allocator locks by itself.
package ptx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"

	"whale/mirror"
)

// Log is the kind of log of a pool.
type Log uint8

const (
	Undo Log = iota
	Redo
	Counted
)

var logNames = [...]string{"undo", "redo", "counted"}

// String is the name in small letters.
func (l Log) String() string {
	if int(l) < len(logNames) {
		return logNames[l]
	}
	return fmt.Sprintf("Log(%d)", uint8(l))
}

// Options say how a pool is made. They mean nothing for one that is there already, except that what is not zero must be what it
// was made with.
type Options struct {
	Log Log
	// Lanes is how many transactions may be under way at a time; at least the region's threads. 0: 16.
	Lanes int
	// LogSize is how many bytes of log a transaction may need: for each range that it changes the range, rounded up to words, and 24
	// bytes. 0: 64 KiB, or less in a region that is small.
	LogSize uint64
	// Root is the size of the root object, zero at first, from which a program finds everything else. 0: 64 bytes.
	Root uint64
}

var (
	// ErrLogFull is the error of a transaction that changes more than its log has room for.
	ErrLogFull = errors.New("ptx: the transaction's log is full")
	// ErrNoSpace is the error of an allocation for which no room is left.
	ErrNoSpace = errors.New("ptx: the pool is full")
	// ErrDamaged is the error of a pool whose own data make no sense.
	ErrDamaged = errors.New("ptx: the pool is damaged")
	// ErrBadFree is the error of freeing what is not allocated.
	ErrBadFree = errors.New("ptx: not the start of an allocated block")
)

// The pool, little-endian, from the start of the region:
//
//	0      magic 8             stored last when the pool is made
//	8      version 4, log 4
//	16     lanes 8
//	24     log size 8
//	32     heap 8              where the first chunk is
//	40     chunks 8
//	48     root 8, root size 8
//	64     crc32c 4            of [8, 64)
//	128    a line for each lane: serial committed 8, serial done 8, bytes of log that count 8, zero 40
//	       a word for each chunk: see heap.go
//	       a log for each lane, which begins with a line
//	       root
//	heap   chunks
const (
	magic      = 0x4c4f4f5058545057 // "WPTXPOOL"
	version    = 2
	headerEnd  = 64
	headerSize = 128
	laneSize   = 64

	defaultLanes = 16
	defaultLog   = 64 << 10
	minLog       = 512
	defaultRoot  = 64
	maxLanes     = 1024
)

// layout is where everything is.
type layout struct {
	log                  Log
	lanes, logSize       uint64
	heap, chunks         uint64
	root, rootSize, size uint64
}

func (l *layout) lane(i int) uint64  { return headerSize + uint64(i)*laneSize }
func (l *layout) chunkWords() uint64 { return headerSize + l.lanes*laneSize }
func (l *layout) laneLog(i int) uint64 {
	return up(l.chunkWords()+l.chunks*8, 64) + uint64(i)*l.logSize
}
func (l *layout) chunk(i uint64) uint64 { return l.heap + i*chunkSize }

// plan lays a pool out in a region of size bytes.
func plan(size uint64, o Options) (*layout, error) {
	l := &layout{log: o.Log, lanes: uint64(o.Lanes), logSize: o.LogSize &^ 63, rootSize: o.Root, size: size}
	switch {
	case int(o.Log) >= len(logNames):
		return nil, fmt.Errorf("ptx: unknown kind of log %d", o.Log)
	case o.Lanes < 0 || o.Lanes > maxLanes:
		return nil, fmt.Errorf("ptx: %d lanes; expected 1 to %d", o.Lanes, maxLanes)
	case o.LogSize != 0 && o.LogSize < minLog:
		return nil, fmt.Errorf("ptx: a log of %d bytes; expected at least %d", o.LogSize, minLog)
	}
	if l.lanes == 0 {
		l.lanes = defaultLanes
	}
	if l.rootSize == 0 {
		l.rootSize = defaultRoot
	}
	if l.logSize == 0 {
		l.logSize = max(minLog, min(defaultLog, size/4/l.lanes&^63))
	}
	fixed := headerSize + l.lanes*(laneSize+l.logSize)
	if l.rootSize > size || l.logSize > size || fixed+l.rootSize+2*64+8+chunkSize > size {
		return nil, fmt.Errorf("ptx: a region of %d bytes is too small for %d lanes with logs of %d bytes, a root of %d bytes and one chunk of %d: "+
			"make it larger, or ask for less", size, l.lanes, l.logSize, l.rootSize, chunkSize)
	}
	l.chunks = (size - fixed - l.rootSize - 2*64) / (chunkSize + 8)
	l.root = l.laneLog(int(l.lanes))
	l.heap = up(l.root+l.rootSize, 64)
	return l, nil
}

func up(n, to uint64) uint64 { return (n + to - 1) &^ (to - 1) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (l *layout) encode() []byte {
	b := make([]byte, headerSize)
	le := binary.LittleEndian
	le.PutUint32(b[8:], version)
	le.PutUint32(b[12:], uint32(l.log))
	for i, v := range []uint64{l.lanes, l.logSize, l.heap, l.chunks, l.root, l.rootSize} {
		le.PutUint64(b[16+8*i:], v)
	}
	le.PutUint32(b[headerEnd:], crc32.Checksum(b[8:headerEnd], castagnoli))
	return b[8:]
}

// decode reads the header of a pool in a region of that size.
func decode(b []byte, size uint64) (*layout, error) {
	le := binary.LittleEndian
	if v := le.Uint32(b[8:]); v != version {
		return nil, fmt.Errorf("ptx: the pool has format version %d, this program knows %d: use the program that made it", v, version)
	}
	if got, want := crc32.Checksum(b[8:headerEnd], castagnoli), le.Uint32(b[headerEnd:]); got != want {
		return nil, fmt.Errorf("%w: checksum %#x of the header, expected %#x; open another copy of the region", ErrDamaged, got, want)
	}
	l := &layout{log: Log(le.Uint32(b[12:])), lanes: le.Uint64(b[16:]), logSize: le.Uint64(b[24:]), heap: le.Uint64(b[32:]),
		chunks: le.Uint64(b[40:]), root: le.Uint64(b[48:]), rootSize: le.Uint64(b[56:]), size: size}
	want, err := plan(size, Options{Log: l.log, Lanes: int(min(l.lanes, maxLanes+1)), LogSize: l.logSize, Root: l.rootSize})
	if err != nil || *want != *l {
		return nil, fmt.Errorf("%w: its header does not describe a region of %d bytes; was the region made larger or smaller?", ErrDamaged, size)
	}
	return l, nil
}

// Pool is an opened pool. Any goroutine may call its methods.
type Pool struct {
	region *mirror.Region
	at     *layout

	mu   sync.Mutex
	free []*Tx
	heap heap // under its own lock
}

// Open opens the pool in a region, and makes one if the region was never used. It undoes, or carries out, the transactions
// that a crash has interrupted. No transaction of the region may be under way, and none may write to it beside the pool's from then
// on.
//
// Errors: the region holds something else, or a pool of another kind or size than the options ask for; it is too small;
// the pool is damaged (wraps ErrDamaged); a mirror was lost.
func Open(r *mirror.Region, o Options) (*Pool, error) {
	b := r.Bytes()
	var at *layout
	var err error
	if len(b) >= headerSize && binary.LittleEndian.Uint64(b) == magic {
		if at, err = decode(b, r.Size()); err != nil {
			return nil, err
		}
		if err := at.agrees(o); err != nil {
			return nil, err
		}
	} else if at, err = create(r, o); err != nil {
		return nil, err
	}
	if at.lanes < uint64(r.Threads()) {
		return nil, fmt.Errorf("ptx: the pool has %d lanes, the region %d threads: open the region with fewer threads, or make a pool with more lanes", at.lanes, r.Threads())
	}
	p := &Pool{region: r, at: at}
	if err := p.recover(); err != nil {
		return nil, err
	}
	return p, p.heap.load(at, b)
}

// agrees says what of the options the pool is not.
func (l *layout) agrees(o Options) error {
	for _, c := range []struct {
		name      string
		want, has uint64
	}{{"lanes", uint64(max(o.Lanes, 0)), l.lanes}, {"bytes of log", o.LogSize &^ 63, l.logSize}, {"bytes of root", o.Root, l.rootSize}} {
		if c.want != 0 && c.want != c.has {
			return fmt.Errorf("ptx: the pool was made with %d %s, and %d are asked for: ask for what it has, or for nothing", c.has, c.name, c.want)
		}
	}
	if o.Log != l.log && o.Log != 0 {
		return fmt.Errorf("ptx: the pool has an %v log, and an %v log is asked for: ask for what it has", l.log, o.Log)
	}
	return nil
}

// create makes a pool in a region of zeros.
func create(r *mirror.Region, o Options) (*layout, error) {
	at, err := plan(r.Size(), o)
	if err != nil {
		return nil, err
	}
	for i, v := range r.Bytes()[headerSize:] {
		if v != 0 {
			return nil, fmt.Errorf("ptx: the region holds something else than a pool: byte %d is not zero; use another region", headerSize+i)
		}
	}
	tx, err := r.Begin()
	if err != nil {
		return nil, err
	}
	tx.Write(8, at.encode())
	tx.Barrier()
	tx.Store64(0, magic)
	return at, tx.Commit()
}

// Root is the place of the root object, of RootSize bytes.
func (p *Pool) Root() uint64     { return p.at.root }
func (p *Pool) RootSize() uint64 { return p.at.rootSize }

// Log is the kind of log.
func (p *Pool) Log() Log { return p.at.log }

// Region is what the pool is in.
func (p *Pool) Region() *mirror.Region { return p.region }
