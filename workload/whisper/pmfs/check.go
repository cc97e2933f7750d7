package pmfs

import (
	"encoding/binary"
	"fmt"

	"whale/workload/whisper/app"
	"whale/workload/whisper/tm"
)

// Check says what is wrong with the file system: names that are not where their hash says, inodes without a name or with as many
// as they do not say, sizes that do not agree with blocks or entries, blocks that belong to nobody or to two. visit, which may be
// nil, is called with each file's path and inode, once a name, and may look at what is in it. For looks.
func (fs *FS) Check(tx *tm.Tx, visit func(path string, node Inode) error) error {
	c := checker{fs: fs, tx: tx, visit: visit, links: map[Inode]uint64{}}
	root := fs.Root(tx)
	if err := c.inode(root, ""); err != nil {
		return err
	}
	for node, n := range c.links {
		if says := tx.Load64(uint64(node) + linksOff); says != n {
			return fmt.Errorf("%w: the inode at %d has %d names and says %d", app.ErrDamaged, node, n, says)
		}
	}
	return fs.data.Owned(c.blocks)
}

type checker struct {
	fs     *FS
	tx     *tm.Tx
	visit  func(path string, node Inode) error
	links  map[Inode]uint64
	blocks []uint64
}

// block notes a block that is referred to.
func (c *checker) block(at, size uint64) error {
	if _, err := c.fs.data.Bytes(at, size); err != nil || at%16 != 0 {
		return fmt.Errorf("%w: no block of %d bytes can be at %d", app.ErrDamaged, size, at)
	}
	c.blocks = append(c.blocks, at)
	return nil
}

// inode checks what a name, path, leads to.
func (c *checker) inode(node Inode, path string) error {
	c.links[node]++
	if c.links[node] == 1 {
		if err := c.block(uint64(node), inodeSize); err != nil {
			return err
		}
		if err := node.tree().Check(c.tx, c.fs.data.Region.Size(), func(at uint64) { c.blocks = append(c.blocks, at) }); err != nil {
			return fmt.Errorf("%q: %w", path, err)
		}
	}
	switch {
	case node.is(c.tx, directory) && c.links[node] == 1:
		return c.directory(node, path)
	case !node.is(c.tx, file):
		return fmt.Errorf("%w: %q is of kind %d, or a directory with two names", app.ErrDamaged, path, c.tx.Load64(uint64(node)+kindOff))
	}
	if c.links[node] == 1 {
		if err := c.file(node); err != nil {
			return fmt.Errorf("%q: %w", path, err)
		}
	}
	if c.visit == nil {
		return nil
	}
	return c.visit(path, node)
}

// file checks that a file has the blocks that its size asks for.
func (c *checker) file(node Inode) (err error) {
	size, next := node.Size(c.tx), uint64(0)
	node.tree().Scan(c.tx, 0, ^uint64(0), func(number, at uint64) bool {
		if number != next {
			err = fmt.Errorf("%w: block %d is missing", app.ErrDamaged, next)
		} else {
			err = c.block(at, BlockSize)
		}
		next++
		return err == nil
	})
	if want := size/BlockSize + min(size%BlockSize, 1); err == nil && next != want {
		err = fmt.Errorf("%w: %d blocks for %d bytes, want %d", app.ErrDamaged, next, size, want)
	}
	return err
}

func (c *checker) directory(dir Inode, path string) (err error) {
	entries := uint64(0)
	dir.tree().Scan(c.tx, 0, ^uint64(0), func(key, at uint64) bool {
		for ; at != 0 && err == nil; at = c.tx.Load64(at + nextOff) {
			if err = c.block(at, entrySize); err != nil {
				break
			}
			if entries++; entries > uint64(len(c.fs.data.Region.Bytes())) {
				err = fmt.Errorf("%w: %q: entries go round in a circle", app.ErrDamaged, path)
				break
			}
			name := nameAt(c.tx, at)
			if hash(name) != key {
				err = fmt.Errorf("%w: %q: the name %q is not where it belongs", app.ErrDamaged, path, name)
				break
			}
			err = c.inode(Inode(c.tx.Load64(at+targetOff)), path+"/"+name)
		}
		return err == nil
	})
	if err == nil && entries != dir.Size(c.tx) {
		err = fmt.Errorf("%w: %q has %d entries and says %d", app.ErrDamaged, path, entries, dir.Size(c.tx))
	}
	return err
}

// Content is a checksum of all names, and what is in the files. For looks, at a file system with which nothing is wrong.
func (fs *FS) Content(tx *tm.Tx) uint64 {
	var sum app.Sum
	var walk func(dir Inode, path string)
	walk = func(dir Inode, path string) {
		fs.List(tx, dir, func(name string, node Inode) bool {
			path := path + "/" + name
			if node.is(tx, directory) {
				sum.Add(1, []byte(path))
				walk(node, path)
				return true
			}
			b := make([]byte, node.Size(tx))
			fs.ReadAt(tx, node, 0, b)
			b = binary.LittleEndian.AppendUint64(b, tx.Load64(uint64(node)+changesOff))
			sum.Add(2, append(b, path...))
			return true
		})
	}
	walk(fs.Root(tx), "")
	return uint64(sum)
}
