package pmfs

import "strconv"

// Colliding are n names with the same hash.
func Colliding(n int) (names []string) {
	for i := 0; len(names) < n; i++ {
		if name := strconv.Itoa(i); hash(name) == hash("0") {
			names = append(names, name)
		}
	}
	return names
}
