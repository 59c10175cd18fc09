"""What the demonstration needs beside the two packages."""
