// Package pmfs is a small file system in persistent memory. Each operation is a transaction, or a part of one: its metadata are
// journalled, in the undo log of package ptx; data go to free blocks, which need no journal, or, if they are few, in place.
//
// It is made after PMFS (Dulloor et al., System Software for Persistent Memory, EuroSys 2014), on which WHISPER runs its file workloads: an
// undo journal, blocks of 4 KiB, trees that lead from a file to its blocks. Files have no holes.
package pmfs

import (
	"encoding/binary"
	"errors"
	"fmt"

	"whale/workload/whisper/app"
	"whale/workload/whisper/btree"
	"whale/workload/whisper/tm"
)

// Inode is the place of an inode: 64 bytes that are kind 8, links 8, size 8, changes 8, root of a tree 8.
//
// A file's tree leads from the number of a block to its place; a directory's from the hash of a name to the first of its
// entries with that hash. An entry, 64 bytes: next one 8, inode 8, length of the name 1, name.
type Inode uint64

const (
	kindOff, linksOff, sizeOff, changesOff, treeOff = 0, 8, 16, 24, 32
	inodeSize                                       = 64

	nextOff, targetOff, nameOff = 0, 8, 16
	entrySize                   = 64
	// MaxName is how many bytes a name may have.
	MaxName = entrySize - nameOff - 1

	file, directory = 1, 2

	// BlockSize is that of files.
	BlockSize = 4096
	// inPlace is up to how many bytes of a block are overwritten in place, through the journal.
	inPlace = 1024

	// RootSize is how many bytes of root object a file system needs.
	RootSize = 8
)

var (
	// ErrExists is the error of making a name that is there.
	ErrExists = errors.New("pmfs: the name is there already")
	// ErrNotExist is the error of a name that is not there.
	ErrNotExist = errors.New("pmfs: no such file or directory")
	// ErrName is the error of a name that is empty or too long.
	ErrName = errors.New("pmfs: a name has 1 to 47 bytes")
	// ErrKind is the error of using a directory as a file, or the other way round.
	ErrKind = errors.New("pmfs: not for this kind of file")
	// ErrHole is the error of writing behind a file's end.
	ErrHole = errors.New("pmfs: a write may begin at the file's end at the latest")
	// ErrNotEmpty is the error of removing a directory that has entries.
	ErrNotEmpty = errors.New("pmfs: the directory is not empty")
)

// FS is a file system in an application's data, whose root object belongs to it.
type FS struct{ data *app.Data }

// Open is the file system; Format has made it, once.
func Open(d *app.Data) *FS { return &FS{d} }

// Format makes an empty root directory.
func (fs *FS) Format(tx *tm.Tx) error {
	root, err := newInode(tx, directory)
	if err == nil {
		tx.Store64(fs.data.Root, uint64(root))
	}
	return err
}

// Root is the root directory.
func (fs *FS) Root(tx *tm.Tx) Inode { return Inode(tx.Load64(fs.data.Root)) }

func newInode(tx *tm.Tx, kind uint64) (Inode, error) {
	at, err := tx.Alloc(inodeSize)
	if err != nil {
		return 0, err
	}
	var b [inodeSize]byte
	binary.LittleEndian.PutUint64(b[kindOff:], kind)
	binary.LittleEndian.PutUint64(b[linksOff:], 1)
	tx.Write(at, b[:])
	return Inode(at), nil
}

func (i Inode) tree() btree.Tree            { return btree.Tree{Root: uint64(i) + treeOff} }
func (i Inode) is(tx *tm.Tx, k uint64) bool { return tx.Load64(uint64(i)+kindOff) == k }

// Size is how many bytes a file has, or how many entries a directory.
func (i Inode) Size(tx *tm.Tx) uint64 { return tx.Load64(uint64(i) + sizeOff) }

// changed gives an inode a size, and counts the change.
func (i Inode) changed(tx *tm.Tx, size uint64) {
	tx.Add(uint64(i)+sizeOff, 16)
	tx.Store64(uint64(i)+sizeOff, size)
	tx.Store64(uint64(i)+changesOff, tx.Load64(uint64(i)+changesOff)+1)
}

// hash is where a name is in its directory's tree.
func hash(name string) uint64 {
	h := uint64(len(name))
	for _, c := range []byte(name) {
		h = app.Mix(h ^ uint64(c))
	}
	return h & 0xffff // so few that names with the same one are met, in tests as elsewhere
}

// entryOf finds a name. prev is the entry before it in its chain, 0 if it is the first.
func entryOf(tx *tm.Tx, dir Inode, name string) (at, prev uint64) {
	at, _ = dir.tree().Get(tx, hash(name))
	for at != 0 && nameAt(tx, at) != name {
		at, prev = tx.Load64(at+nextOff), at
	}
	return at, prev
}

func nameAt(tx *tm.Tx, entry uint64) string {
	var b [entrySize - nameOff]byte
	tx.Read(entry+nameOff, b[:])
	return string(b[1:][:min(int(b[0]), MaxName)])
}

// Lookup finds a name in a directory.
func (fs *FS) Lookup(tx *tm.Tx, dir Inode, name string) (Inode, error) {
	if !dir.is(tx, directory) {
		return 0, ErrKind
	}
	at, _ := entryOf(tx, dir, name)
	if at == 0 {
		return 0, fmt.Errorf("%w: %q", ErrNotExist, name)
	}
	return Inode(tx.Load64(at + targetOff)), nil
}

// Create makes an empty file.
func (fs *FS) Create(tx *tm.Tx, dir Inode, name string) (Inode, error) {
	return fs.make(tx, dir, name, file)
}

// Mkdir makes a directory.
func (fs *FS) Mkdir(tx *tm.Tx, dir Inode, name string) (Inode, error) {
	return fs.make(tx, dir, name, directory)
}

func (fs *FS) make(tx *tm.Tx, dir Inode, name string, kind uint64) (Inode, error) {
	node, err := newInode(tx, kind)
	if err != nil {
		return 0, err
	}
	return node, fs.enter(tx, dir, name, node)
}

// enter gives a directory an entry.
func (fs *FS) enter(tx *tm.Tx, dir Inode, name string, node Inode) error {
	switch at, _ := entryOf(tx, dir, name); {
	case name == "" || len(name) > MaxName:
		return fmt.Errorf("%w: %q", ErrName, name)
	case !dir.is(tx, directory):
		return ErrKind
	case at != 0:
		return fmt.Errorf("%w: %q", ErrExists, name)
	}
	at, err := tx.Alloc(entrySize)
	if err != nil {
		return err
	}
	first, collides := dir.tree().Get(tx, hash(name))
	var b [entrySize]byte
	binary.LittleEndian.PutUint64(b[nextOff:], first)
	binary.LittleEndian.PutUint64(b[targetOff:], uint64(node))
	b[nameOff] = byte(len(name))
	copy(b[nameOff+1:], name)
	tx.Write(at, b[:])
	if collides {
		dir.tree().Set(tx, hash(name), at)
	} else if err := dir.tree().Insert(tx, hash(name), at); err != nil {
		return err
	}
	dir.changed(tx, dir.Size(tx)+1)
	return nil
}

// leave takes an entry away and says what it led to.
func (fs *FS) leave(tx *tm.Tx, dir Inode, name string) (Inode, error) {
	if !dir.is(tx, directory) {
		return 0, ErrKind
	}
	at, prev := entryOf(tx, dir, name)
	if at == 0 {
		return 0, fmt.Errorf("%w: %q", ErrNotExist, name)
	}
	node, next := Inode(tx.Load64(at+targetOff)), tx.Load64(at+nextOff)
	switch {
	case prev != 0:
		tx.Store64(prev+nextOff, next)
	case next != 0:
		dir.tree().Set(tx, hash(name), next)
	default:
		if _, _, err := dir.tree().Delete(tx, hash(name)); err != nil {
			return 0, err
		}
	}
	dir.changed(tx, dir.Size(tx)-1)
	return node, tx.Free(at)
}

// Link gives a file another name.
func (fs *FS) Link(tx *tm.Tx, dir Inode, name string, node Inode) error {
	if !node.is(tx, file) {
		return ErrKind
	}
	tx.Store64(uint64(node)+linksOff, tx.Load64(uint64(node)+linksOff)+1)
	return fs.enter(tx, dir, name, node)
}

// Rename gives a file another name, which must be free, in the same directory or another.
func (fs *FS) Rename(tx *tm.Tx, from Inode, old string, to Inode, name string) error {
	node, err := fs.leave(tx, from, old)
	if err != nil {
		return err
	}
	return fs.enter(tx, to, name, node)
}

// Remove takes a name away. With its last name a file is gone; so is a directory, which must be empty.
func (fs *FS) Remove(tx *tm.Tx, dir Inode, name string) error {
	node, err := fs.leave(tx, dir, name)
	if err != nil {
		return err
	}
	if links := tx.Load64(uint64(node) + linksOff); links > 1 {
		tx.Store64(uint64(node)+linksOff, links-1)
		return nil
	}
	if node.is(tx, directory) && node.Size(tx) > 0 {
		return fmt.Errorf("%w: %q", ErrNotEmpty, name)
	}
	for {
		n, block, ok := node.tree().Last(tx, 0, ^uint64(0))
		if !ok {
			return tx.Free(uint64(node))
		}
		if _, _, err := node.tree().Delete(tx, n); err != nil {
			return err
		}
		if err := tx.Free(block); err != nil {
			return err
		}
	}
}

// List calls f with the names of a directory, in no order that means anything, until it returns false. f may not change the directory.
func (fs *FS) List(tx *tm.Tx, dir Inode, f func(name string, node Inode) bool) {
	dir.tree().Scan(tx, 0, ^uint64(0), func(_, at uint64) bool {
		for ; at != 0; at = tx.Load64(at + nextOff) {
			if !f(nameAt(tx, at), Inode(tx.Load64(at+targetOff))) {
				return false
			}
		}
		return true
	})
}

// WriteAt writes into a file, from off on, which is its end at the latest.
func (fs *FS) WriteAt(tx *tm.Tx, node Inode, off uint64, b []byte) error {
	size := node.Size(tx)
	switch {
	case !node.is(tx, file):
		return ErrKind
	case off > size:
		return fmt.Errorf("%w: a write at %d of a file of %d bytes", ErrHole, off, size)
	}
	end := off + uint64(len(b))
	for at := off; at < end; {
		n := min(end-at, BlockSize-at%BlockSize)
		if err := writeBlock(tx, node, at, b[at-off:][:n]); err != nil {
			return err
		}
		at += n
	}
	node.changed(tx, max(size, end))
	return nil
}

// writeBlock writes a part of a file's block.
func writeBlock(tx *tm.Tx, node Inode, at uint64, b []byte) error {
	number, in := at/BlockSize, at%BlockSize
	old, ok := node.tree().Get(tx, number)
	if ok && len(b) <= inPlace {
		tx.Write(old+in, b)
		return nil
	}
	block, err := tx.Alloc(BlockSize)
	if err != nil {
		return err
	}
	if !ok { // its beginning is written first: files have no holes
		tx.Write(block, b)
		return node.tree().Insert(tx, number, block)
	}
	if len(b) < BlockSize {
		var whole [BlockSize]byte
		tx.Read(old, whole[:])
		copy(whole[in:], b)
		b = whole[:]
	}
	tx.Write(block, b)
	node.tree().Set(tx, number, block)
	return tx.Free(old)
}

// ReadAt reads from a file and says how many bytes there were.
func (fs *FS) ReadAt(tx *tm.Tx, node Inode, off uint64, b []byte) (n int, err error) {
	if !node.is(tx, file) {
		return 0, ErrKind
	}
	size := node.Size(tx)
	end := min(size, off+uint64(len(b)))
	for at := off; at < end; {
		block, _ := node.tree().Get(tx, at/BlockSize)
		part := min(end-at, BlockSize-at%BlockSize)
		tx.Read(block+at%BlockSize, b[at-off:][:part])
		at += part
	}
	return int(max(end, off) - off), nil
}
