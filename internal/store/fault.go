package store

// Fault takes one rule away from a store, so that tests can show that they would notice. Only tests set one.
type Fault uint8

const (
	FaultNone Fault = iota
)

// Break makes the store obey the rules but for one.
func (s *Store) Break(f Fault) { s.bad = f }
