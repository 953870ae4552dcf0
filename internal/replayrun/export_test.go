package replayrun

// SetOpenRoom makes comparisons look for records of ended flows more often, until undo.
func SetOpenRoom(n int) (undo func()) {
	old := openRoom
	openRoom = n
	return func() { openRoom = old }
}
