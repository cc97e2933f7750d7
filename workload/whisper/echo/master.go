package echo

import (
	"bytes"
	"fmt"

	"whale/mirror/ptx"
	"whale/workload"
	"whale/workload/whisper/app"
	"whale/workload/whisper/chain"
)

// program is the store on its data: the master. Under lock, from the first look until Commit has returned, but for the gets of
// a thread's own store.
type program struct {
	*Store
	*app.Data
	table chain.Table

	lock       app.Lock
	key, value []byte // of the put that is being merged
}

// granule is what one load from persistent memory brings, of lines that are read one after the other.
const granule = 256

// Run implements workload.Program: n merges, each of as many keys as Params.Merge says.
func (p *program) Run(t *workload.Thread, n int) error {
	local := p.newLocal()
	for range n {
		snapshot := p.snapshot(t)
		for len(local.order) < p.p.Merge && len(local.order) < p.p.Keys {
			for range p.p.Gets {
				if err := p.get(t, local, t.Rand.Uint64N(uint64(p.p.Keys)), snapshot); err != nil {
					return err
				}
			}
			t.Compute(p.p.Think)
			local.put(t.Rand.Uint64N(uint64(p.p.Keys)), t.Rand.Uint64())
		}
		if err := p.merge(t, local); err != nil {
			return err
		}
	}
	return nil
}

// snapshot is the number of the newest merge.
func (p *program) snapshot(t *workload.Thread) uint64 {
	p.lock.Lock(t, p.Data)
	defer p.lock.Unlock()
	return p.Region.Load64(p.Root + rootNewest)
}

// get looks a key up as a client sees it: what it has put itself, else what the master had at its snapshot.
func (p *program) get(t *workload.Thread, local *local, number, snapshot uint64) error {
	t.Compute(p.p.Think)
	if _, ok := local.salts[number]; ok {
		return nil
	}
	p.lock.Lock(t, p.Data)
	defer p.lock.Unlock()
	entry, _ := p.find(t, number)
	if entry == 0 {
		return nil
	}
	version := p.Region.Load64(entry + entryNewest)
	for version != 0 && p.Region.Load64(version+versionMerge) > snapshot {
		p.Visit(t, 1)
		version = p.Region.Load64(version + versionOlder)
	}
	if version == 0 { // it is newer than the snapshot, or older ones are not kept any more
		return nil
	}
	p.Visit(t, 1+p.p.Value/granule)
	_, err := p.valueOf(version, number)
	return err
}

// find looks for a key's entry.
func (p *program) find(t *workload.Thread, number uint64) (entry uint64, hash uint64) {
	hash = app.Mix(number)
	app.Fill(p.key, hash)
	entry, _, steps := p.table.Find(p.Region, hash, func(e uint64) bool {
		return bytes.Equal(p.Region.Bytes()[e+entryKey:e+entryKey+uint64(p.p.Key)], p.key)
	})
	p.Visit(t, 1+steps*(1+p.p.Key/granule))
	return entry, hash
}

// merge brings what a thread has put into the master, and empties the thread's store.
func (p *program) merge(t *workload.Thread, local *local) error {
	p.lock.Lock(t, p.Data)
	defer p.lock.Unlock()
	err := p.Do(func(tx *ptx.Tx) error {
		number := tx.Load64(p.Root+rootNewest) + 1
		for _, key := range local.order {
			if err := p.add(t, tx, key, local.salts[key], number); err != nil {
				return err
			}
		}
		tx.Store64(p.Root+rootNewest, number)
		return nil
	})
	clear(local.salts)
	local.order = local.order[:0]
	return err
}

// add adds a version of a key.
func (p *program) add(t *workload.Thread, tx *ptx.Tx, number, salt, merge uint64) error {
	value, err := tx.Alloc(uint64(p.p.Value))
	if err != nil {
		return err
	}
	app.Fill(p.value, filling(number, merge, salt))
	tx.Write(value, p.value)
	version, err := tx.Alloc(versionSize)
	if err != nil {
		return err
	}
	tx.Store64(version+versionMerge, merge)
	tx.Store64(version+versionValue, value)
	tx.Store64(version+versionSalt, salt)
	entry, hash := p.find(t, number)
	if entry != 0 {
		tx.Store64(version+versionOlder, tx.Load64(entry+entryNewest))
		tx.Store64(entry+entryNewest, version)
		if count := tx.Load64(entry + entryCount); count < uint64(p.p.Versions) {
			tx.Store64(entry+entryCount, count+1)
			return nil
		}
		return p.forget(t, tx, version)
	}
	if entry, err = tx.Alloc(uint64(entryKey + p.p.Key)); err != nil {
		return err
	}
	tx.Store64(version+versionOlder, 0)
	tx.Store64(entry+entryNewest, version)
	tx.Store64(entry+entryCount, 1)
	tx.Store64(entry+entryNumber, number)
	tx.Write(entry+entryKey, p.key) // find has made it
	p.table.Push(tx, entry, hash)
	tx.Store64(p.Root+rootKeys, tx.Load64(p.Root+rootKeys)+1)
	return nil
}

// forget frees the oldest version of a key, of which newest is the newest.
func (p *program) forget(t *workload.Thread, tx *ptx.Tx, newest uint64) error {
	before, oldest := newest, tx.Load64(newest+versionOlder)
	for older := tx.Load64(oldest + versionOlder); older != 0; older = tx.Load64(oldest + versionOlder) {
		before, oldest = oldest, older
		p.Visit(t, 1)
	}
	tx.Store64(before+versionOlder, 0)
	if err := tx.Free(tx.Load64(oldest + versionValue)); err != nil {
		return err
	}
	return tx.Free(oldest)
}

// filling is what a value follows from.
func filling(number, merge, salt uint64) uint64 { return salt ^ app.Mix(number^app.Mix(merge)) }

// valueOf is the value of a version of a key, if it is right.
func (p *program) valueOf(version, number uint64) ([]byte, error) {
	at := p.Region.Load64(version + versionValue)
	b, err := p.Bytes(at, uint64(p.p.Value))
	if err == nil && !app.Filled(b, filling(number, p.Region.Load64(version+versionMerge), p.Region.Load64(version+versionSalt))) {
		err = fmt.Errorf("%w: the value at %d is not that of the version at %d of key %d", app.ErrDamaged, at, version, number)
	}
	return b, err
}

// Check implements workload.Program.
func (p *program) Check() error {
	used := []uint64{p.table.At}
	merges := map[uint64]uint64{} // how many of the newest versions are of a merge
	keys, newest := uint64(0), p.Region.Load64(p.Root+rootNewest)
	err := p.table.Walk(p.Data, uint64(entryKey+p.p.Key), func(entry uint64) error {
		keys++
		used = append(used, entry)
		number := p.Region.Load64(entry + entryNumber)
		if key := p.Region.Bytes()[entry+entryKey : entry+entryKey+uint64(p.p.Key)]; !app.Filled(key, app.Mix(number)) || chain.Hash(p.Region, entry) != app.Mix(number) {
			return fmt.Errorf("%w: the entry at %d has not the key %d", app.ErrDamaged, entry, number)
		}
		merges[p.Region.Load64(min(p.Region.Load64(entry+entryNewest)&^7, p.Region.Size()-versionSize)+versionMerge)]++
		versions, err := p.versions(entry, number, newest)
		used = append(used, versions...)
		return err
	})
	if err == nil {
		switch has, at := p.Region.Load64(p.Root+rootKeys), p.Region.Load64(p.Root+rootTable); {
		case has != keys:
			err = fmt.Errorf("%w: %d keys, and %d are counted", app.ErrDamaged, keys, has)
		case at != p.table.At:
			err = fmt.Errorf("%w: the table is at %d, and was at %d", app.ErrDamaged, at, p.table.At)
		case newest > 0 && merges[newest] == 0:
			err = fmt.Errorf("%w: the newest merge is %d, and no version is of it", app.ErrDamaged, newest)
		case merges[newest] > uint64(p.p.Merge):
			err = fmt.Errorf("%w: %d versions are of merge %d, and a merge has %d", app.ErrDamaged, merges[newest], newest, p.p.Merge)
		default:
			err = p.Owned(used)
		}
	}
	if err != nil {
		return fmt.Errorf("echo: %w", err)
	}
	return nil
}

// versions checks those of an entry, and says which blocks they are in.
func (p *program) versions(entry, number, newest uint64) (used []uint64, err error) {
	count, below := uint64(0), newest+1
	for at := p.Region.Load64(entry + entryNewest); at != 0; at = p.Region.Load64(at + versionOlder) {
		b, err := p.Bytes(at, versionSize)
		if err != nil || len(b) == 0 || at%8 != 0 || count == uint64(p.p.Versions) {
			return nil, fmt.Errorf("%w: key %d has a version at %d, behind %d others", app.ErrDamaged, number, at, count)
		}
		merge := p.Region.Load64(at + versionMerge)
		if merge == 0 || merge >= below {
			return nil, fmt.Errorf("%w: a version of key %d is of merge %d, want one before %d", app.ErrDamaged, number, merge, below)
		}
		below = merge
		if _, err := p.valueOf(at, number); err != nil {
			return nil, err
		}
		used = append(used, at, p.Region.Load64(at+versionValue))
		count++
	}
	if has := p.Region.Load64(entry + entryCount); has != count || count == 0 {
		return nil, fmt.Errorf("%w: key %d has %d versions, and %d are counted", app.ErrDamaged, number, count, has)
	}
	return used, nil
}

// Content implements app.Program: all versions.
func (p *program) Content() uint64 {
	var sum app.Sum
	for i := range p.table.Buckets {
		for entry := p.table.First(p.Region, i); entry != 0; entry = chain.After(p.Region, entry) {
			number := p.Region.Load64(entry + entryNumber)
			for at := p.Region.Load64(entry + entryNewest); at != 0; at = p.Region.Load64(at + versionOlder) {
				b, _ := p.valueOf(at, number)
				sum.Add(app.Mix(number)^p.Region.Load64(at+versionMerge), b)
			}
		}
	}
	return uint64(sum)
}
