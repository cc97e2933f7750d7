// Package app is what the applications of the suite have in common: data in a pool of mirror/ptx that says whose it is and by which
// parameters it was made, locks for threads of modelled hardware, and bytes that tell whether they are right.
package app

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"

	"github.com/zeebo/xxh3"

	"whale/mirror"
	"whale/mirror/ptx"
	"whale/workload"
)

// Program is what each application of the suite is on its data.
type Program interface {
	workload.Program
	// Content is a checksum of all that a user of the program could ask for; of data that Check has found nothing wrong with. It
	// does not depend on places, so that equal runs have equal contents, wherever they have put them.
	Content() uint64
}

// Spec says what an application's data are.
type Spec struct {
	Name string
	// Params are what the layout depends on: data are opened with those that they were made with.
	Params []uint64
	// Pool says how the pool is made; its Root is the application's own part, which Data.Root begins.
	Pool ptx.Options
}

// Data is an application's pool.
type Data struct {
	Pool   *ptx.Pool
	Region *mirror.Region
	Root   uint64 // place of the application's own root object, zero at first
}

// ErrDamaged is wrapped by errors about data that make no sense.
var ErrDamaged = errors.New("the data are damaged")

// head is a word that says that the data are complete and whose they are, and the parameters.
func (s Spec) head() []uint64 {
	h := fnv.New64a()
	h.Write([]byte("whale whisper 1 " + s.Name))
	return append([]uint64{h.Sum64(), uint64(len(s.Params))}, s.Params...)
}

func (s Spec) headSize() uint64 { return (uint64(8*(2+len(s.Params))) + 63) &^ 63 }

func (s Spec) pool(r *mirror.Region) (*Data, error) {
	o := s.Pool
	o.Root += s.headSize()
	pool, err := ptx.Open(r, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	return &Data{Pool: pool, Region: r, Root: pool.Root() + s.headSize()}, nil
}

// Create makes a pool in a region of zeros, has fill build what the application starts with, and then says that the data are
// complete.
func (s Spec) Create(r *mirror.Region, fill func(*Data) error) error {
	d, err := s.pool(r)
	if err != nil {
		return err
	}
	if d.Pool.Region().Load64(d.Pool.Root()) != 0 {
		return fmt.Errorf("%s: the region has data already: open it, or prepare another region", s.Name)
	}
	if err := fill(d); err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	return d.Do(func(tx *ptx.Tx) error {
		head := s.head()
		for i := len(head) - 1; i >= 0; i-- {
			tx.Store64(d.Pool.Root()+8*uint64(i), head[i])
		}
		return nil
	})
}

// Open opens what Create has made, after recovery.
func (s Spec) Open(r *mirror.Region) (*Data, error) {
	d, err := s.pool(r)
	if err != nil {
		return nil, err
	}
	for i, want := range s.head() {
		if got := r.Load64(d.Pool.Root() + 8*uint64(i)); got != want {
			return nil, fmt.Errorf("%s: word %d of the data's head is %#x, want %#x: prepare the region first, or open it with the parameters that it was prepared with",
				s.Name, i, got, want)
		}
	}
	return d, nil
}

// Do runs f as a transaction: it commits if f returns nil, and else leaves nothing.
func (d *Data) Do(f func(tx *ptx.Tx) error) error {
	tx, err := d.Pool.Begin()
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Abort())
	}
	return tx.Commit()
}

// Bytes are the n bytes at off, if such are in the region: for checks, which trust no place. No transaction may be writing to them.
func (d *Data) Bytes(off, n uint64) ([]byte, error) {
	if size := d.Region.Size(); off > size || n > size-off {
		return nil, fmt.Errorf("%w: [%d, %d+%d) is not in the region of %d bytes", ErrDamaged, off, off, n, size)
	}
	return d.Region.Bytes()[off : off+n], nil
}

// Word is the word at off, under the same conditions.
func (d *Data) Word(off uint64) (uint64, error) {
	b, err := d.Bytes(off, 8)
	switch {
	case err != nil:
		return 0, err
	case off%8 != 0:
		return 0, fmt.Errorf("%w: the place %d of a word is not a multiple of 8", ErrDamaged, off)
	}
	return binary.LittleEndian.Uint64(b), nil
}

// Owned says whether the blocks that are allocated are those that used names, each once, and nothing else: a block that nobody
// refers to is lost, one that is referred to and free will be given to somebody else.
func (d *Data) Owned(used []uint64) error {
	left := make(map[uint64]bool, len(used))
	for _, at := range used {
		if left[at] {
			return fmt.Errorf("%w: the block at %d is referred to twice", ErrDamaged, at)
		}
		left[at] = true
	}
	for at := range d.Pool.Blocks() {
		if !left[at] {
			return fmt.Errorf("%w: the block at %d is allocated, and nothing refers to it", ErrDamaged, at)
		}
		delete(left, at)
	}
	for at := range left {
		return fmt.Errorf("%w: the block at %d is referred to, and not allocated", ErrDamaged, at)
	}
	return nil
}

// Mix scatters the bits of x (splitmix64, Steele et al., OOPSLA 2014).
func Mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Fill fills b with bytes that follow from what: [Filled] knows them again.
func Fill(b []byte, what uint64) {
	for i := 0; i < len(b); i += 8 {
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], Mix(what^uint64(i)<<40))
		copy(b[i:], word[:])
	}
}

// Filled says whether b is what Fill makes of it.
func Filled(b []byte, what uint64) bool {
	for i := 0; i < len(b); i += 8 {
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], Mix(what^uint64(i)<<40))
		if string(b[i:min(i+8, len(b))]) != string(word[:min(8, len(b)-i)]) {
			return false
		}
	}
	return true
}

// Sum is a checksum of a set of things, in whatever order they are added.
type Sum uint64

// Add adds a thing: a key and bytes.
func (s *Sum) Add(key uint64, b []byte) {
	*s += Sum(Mix(xxh3.HashSeed(b, key)))
}

// Room is how many bytes a block of n bytes takes of a region, at most, if there are many: classes of sizes are up to half as large
// again, and chunks have tables.
func Room(n int) uint64 { return uint64(n)*3/2 + 24 }

// Sizes is how many bytes of a region go to waste if blocks of as many sizes, the tables of a chain among them, are there besides: a chunk for each
// may be nearly empty.
func Sizes(n int) uint64 { return uint64(n) * 16 << 10 }

// SizesTo is how many sizes blocks up to n bytes have, at most.
func SizesTo(n int) int {
	count := 4
	for size := 64; size < n; size *= 2 {
		count += 3
	}
	return count
}

// cached is up to which size data are taken to be in the last-level cache.
const cached = 8 << 20

// Visit pays for loads of n lines of the data, one after the other.
func (d *Data) Visit(t *workload.Thread, n int) {
	if d.Region.Size() <= cached {
		t.LoadCached(n)
	} else {
		t.LoadPM(n)
	}
}
