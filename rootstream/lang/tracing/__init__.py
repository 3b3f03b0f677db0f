"""What programs did, as a timeline; what they will do, as a graph."""
