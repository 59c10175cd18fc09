"""Files → Recording: raw arrays by kind, nothing renamed, nothing scaled, nothing trusted."""
