package shm

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"whale/fabric"
	"whale/pmem"
)

// remote is a key of the peer that this end has used. The word in the peer's table says at each use whether it is valid
// still; all else never changes while it is.
type remote struct {
	key    fabric.Key
	word   *atomic.Uint64
	base   unsafe.Pointer // of the registration, in this process's mapping
	n      uint64
	rights fabric.Rights
	mem    pmem.Memory // this process's mapping
	off    uint64      // of the registration in it
	// flushes: see persist.go
	flushes bool
}

// reach is the n bytes at a, in the peer's memory, if the key is valid in this period and gives the right (0: any).
func (c *conn) reach(a fabric.Addr, n uint64, right fabric.Rights) (*remote, unsafe.Pointer, error) {
	r := c.remotes[a.Key&keyMask]
	if r == nil || r.key != a.Key {
		var err error
		if r, err = c.learn(a.Key); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case r.word.Load() != uint64(r.key):
		return nil, nil, c.refuse(r.key, errNoKey)
	case r.rights&right != right:
		return nil, nil, c.refuse(r.key, errRight)
	case a.Off > r.n || n > r.n-a.Off:
		return nil, nil, c.refuse(r.key, fmt.Errorf("%w of %d bytes: [%d, %d+%d)", errOutside, r.n, a.Off, a.Off, n))
	}
	return r, unsafe.Add(r.base, a.Off), nil
}

// refuse is the error of an access that the peer does not allow; or of a lost connection, if the key is gone because
// the peer has withdrawn everything.
func (c *conn) refuse(key fabric.Key, why error) error {
	if c.peer.line.gen.Load() != c.peer.gen {
		c.lostLine()
		return c.err
	}
	return fmt.Errorf("%w: %s, key %#x: %w", fabric.ErrAccess, c.peer.dir, key, why)
}

// learn reads the entry of a key and maps its file. Not inside a period: it calls the system.
func (c *conn) learn(key fabric.Key) (r *remote, err error) {
	c.leave()
	r, err = c.open(key)
	c.enter()
	if c.err != nil {
		return nil, c.err
	}
	if err != nil {
		return nil, c.refuse(key, err)
	}
	c.remotes[key&keyMask] = r
	return r, nil
}

func (c *conn) open(key fabric.Key) (*remote, error) {
	shared := &c.peer.control.keys[key&keyMask]
	if key == 0 || shared.key.Load() != uint64(key) {
		return nil, errNoKey
	}
	k := keyEntry{off: shared.off, n: shared.n, dev: shared.dev, ino: shared.ino,
		rights: shared.rights, domain: shared.domain, length: shared.length, path: shared.path}
	if shared.key.Load() != uint64(key) {
		return nil, errNoKey
	}
	if int(k.length) > len(k.path) {
		return nil, fmt.Errorf("its path has %d bytes, at most %d are possible", k.length, len(k.path))
	}
	file, err := c.mapping(string(k.path[:k.length]), identity{k.dev, k.ino}, pmem.Domain(k.domain))
	if err != nil {
		return nil, err
	}
	if size := uint64(len(file.Bytes())); k.n == 0 || k.off > size || k.n > size-k.off {
		return nil, fmt.Errorf("%s has %d bytes, the registration is [%d, %d+%d): was the file shortened?",
			file.Name(), size, k.off, k.off, k.n)
	}
	return &remote{
		key:     key,
		word:    &shared.key,
		base:    unsafe.Pointer(&file.Bytes()[k.off]),
		n:       k.n,
		rights:  fabric.Rights(k.rights),
		mem:     file,
		off:     k.off,
		flushes: flushes(file),
	}, nil
}

// mapping is the peer's file at path, mapped once for each connection.
func (c *conn) mapping(path string, id identity, domain pmem.Domain) (*pmem.File, error) {
	if f := c.files[path]; f != nil {
		return f, same(f, id)
	}
	f, err := openShared(path, id, domain)
	if err != nil {
		return nil, err
	}
	c.files[path] = f
	f.Warm(0)
	return f, nil
}

// openShared maps a file of the peer, with the flushes that its owner asks for.
func openShared(path string, id identity, domain pmem.Domain) (f *pmem.File, err error) {
	if domain == pmem.ADR || domain == pmem.EADR {
		f, err = pmem.Map(path, 0, pmem.Options{Domain: domain})
	} else {
		f, err = pmem.Open(path)
	}
	if err != nil {
		return nil, err
	}
	if err := same(f, id); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// same tells the file that the peer has mapped from another that has its name by now.
func same(f *pmem.File, want identity) error {
	got, err := identityOf(f.File())
	if err == nil && got != want {
		err = fmt.Errorf("%s is not the file that the peer has mapped: it was replaced", f.Name())
	}
	return err
}
