package store

// Scan visits the keys of the transaction's state whose hashes are in the index's bucket at cursor, and returns the cursor
// behind it, 0 after the last one. The first cursor is 0. A cursor stays one whatever happens to the index, so that a key
// that is there from the first call to the last is visited, and exactly once. Keys whose deadline has passed are not. The
// work is that of one bucket, a few hundred keys. Keys alias the arena or what the transaction was given.
//
// It reveals every write, so Seen is the log's end afterwards.
func (tx *Tx) Scan(cursor uint64, visit func(key []byte)) (next uint64) {
	s := tx.s
	tx.see(s.l.End())
	bucket := s.x.bucket(cursor)
	for i := range tx.writes {
		if w := &tx.writes[i]; w.lives() && s.x.bucket(w.hash) == bucket {
			visit(w.key)
		}
	}
	return s.x.scan(cursor, func(offset uint64) bool {
		r, ok := s.l.Peek(offset)
		if ok && !tx.flush && s.live(&r) && !tx.passed(r.Deadline) && tx.find(s.hashKey(r.Key), r.Key) == nil {
			visit(r.Key)
		}
		return true
	})
}
